/**
 * A network with faults between a client and one mongod. Clients connect to `proxy.uriFor(database)`. Invariant: bytes
 * are never lost or reordered within a connection unless it is cut. What is held back reaches the server when released,
 * even when the client has closed its end meanwhile, as a late packet would.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { BSON, type Document } from 'mongodb';

export interface Hold {
  /** Messages held back by this hold so far. */
  count(): number;
  /** Resolves when at least `count` messages (default 1) have been held back. */
  reached(count?: number): Promise<void>;
  /** Sends what was held back; the hold ends. */
  release(): void;
}

export interface MongoProxy {
  readonly port: number;
  uriFor(database: string): string;
  /** Half-open: connections stay open and new ones are accepted, nothing flows; with a direction, only that one is silent. */
  pause(direction?: 'requests' | 'answers'): void;
  /** What waited flows on. */
  resume(): void;
  /** Resets every connection; what was held back on them is lost. */
  cut(): void;
  /** Resets new connections at once; open ones live on. */
  refuse(): void;
  accept(): void;
  /** Holds back the requests that match, and what follows them on the same connection. */
  hold(matches: (command: Document, message: Buffer) => boolean): Hold;
  /** Every request from now on arrives `ms` later; 0 ends it. */
  delay(ms: number): void;
  connections(): number;
  stop(): Promise<void>;
}

interface ActiveHold {
  readonly matches: (command: Document, message: Buffer) => boolean;
  active: boolean;
  count: number;
  readonly waiting: { count: number; resolve: () => void }[];
}

interface State {
  readonly silent: Set<'requests' | 'answers'>;
  readonly holds: Set<ActiveHold>;
  delayMs: number;
}

interface Link {
  pump(): void;
  destroy(): void;
}

/** `target` is the mongod: its port, or an address that names it first. */
export async function startProxy(target: number | string): Promise<MongoProxy> {
  const targetPort =
    typeof target === 'number' ? target : Number(/:(\d+)/.exec(target.replace(/^.*?\/\//, ''))?.[1]);
  const state: State = { silent: new Set(), holds: new Set(), delayMs: 0 };
  const links = new Set<Link>();
  let refusing = false;
  const server = createServer({ allowHalfOpen: true }, (client) => {
    if (refusing) client.resetAndDestroy();
    else links.add(join(client, targetPort, state, (link) => links.delete(link)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const pumpAll = (): void => {
    for (const link of links) link.pump();
  };
  const cut = (): void => {
    for (const link of links) link.destroy();
  };
  return {
    port,
    uriFor: (database) => `mongodb://127.0.0.1:${port}/${database}?directConnection=true`,
    pause: (direction) => {
      for (const each of direction === undefined ? (['requests', 'answers'] as const) : [direction])
        state.silent.add(each);
    },
    resume: () => {
      state.silent.clear();
      pumpAll();
    },
    cut,
    refuse: () => {
      refusing = true;
    },
    accept: () => {
      refusing = false;
    },
    hold: (matches) => startHold(state, matches, pumpAll),
    delay: (ms) => {
      state.delayMs = ms;
    },
    connections: () => links.size,
    stop: async () => {
      const closed = once(server, 'close');
      server.close();
      cut();
      await closed;
    },
  };
}

function startHold(state: State, matches: ActiveHold['matches'], pumpAll: () => void): Hold {
  const hold: ActiveHold = { matches, active: true, count: 0, waiting: [] };
  state.holds.add(hold);
  return {
    count: () => hold.count,
    reached: (count = 1) =>
      new Promise((resolve) => {
        if (hold.count >= count) resolve();
        else hold.waiting.push({ count, resolve });
      }),
    release: () => {
      hold.active = false;
      state.holds.delete(hold);
      pumpAll();
    },
  };
}

function join(client: Socket, targetPort: number, state: State, closed: (link: Link) => void): Link {
  const server = connect({ host: '127.0.0.1', port: targetPort, allowHalfOpen: true, noDelay: true });
  client.setNoDelay(true);
  const requests: { message: Buffer; dueAt: number; hold: ActiveHold | undefined }[] = [];
  const answers: Buffer[] = [];
  let partial = Buffer.alloc(0);
  let clientEnded = false;
  let serverEnded = false;
  let serverClosed = false;
  let timer: NodeJS.Timeout | undefined;
  const pump = (): void => {
    clearTimeout(timer);
    while (!state.silent.has('requests') && requests[0] !== undefined && !requests[0].hold?.active) {
      const wait = requests[0].dueAt - performance.now();
      if (wait > 0) {
        timer = setTimeout(pump, wait);
        break;
      }
      server.write((requests.shift() as { message: Buffer }).message);
    }
    if (clientEnded && requests.length === 0 && !state.silent.has('requests')) server.end();
    // A client that is not to hear anything does not hear of the end either; the link stays until it does, or is cut.
    if (state.silent.has('answers') && !client.destroyed) return;
    for (const answer of answers.splice(0)) if (!client.destroyed) client.write(answer);
    if (serverEnded) client.end();
    if (!serverClosed) return;
    client.destroy();
    closed(link);
  };
  const link: Link = {
    pump,
    destroy: () => {
      clearTimeout(timer);
      closed(link);
      requests.length = 0;
      client.resetAndDestroy();
      server.resetAndDestroy();
    },
  };
  client.on('data', (chunk: Buffer) => {
    partial = Buffer.concat([partial, chunk]);
    while (partial.length >= 4 && partial.length >= partial.readInt32LE(0)) {
      const message = partial.subarray(0, partial.readInt32LE(0));
      partial = partial.subarray(message.length);
      requests.push({ message, dueAt: performance.now() + state.delayMs, hold: heldBy(state, message) });
    }
    pump();
  });
  server.on('data', (chunk: Buffer) => {
    answers.push(chunk);
    pump();
  });
  const clientGone = (): void => {
    clientEnded = true;
    pump();
  };
  client.on('end', clientGone).on('close', clientGone);
  server.on('end', () => {
    serverEnded = true;
    pump();
  });
  server.on('close', () => {
    serverClosed = true;
    pump();
  });
  client.on('error', () => {});
  server.on('error', () => client.destroy());
  return link;
}

function heldBy(state: State, message: Buffer): ActiveHold | undefined {
  for (const hold of state.holds) {
    if (!hold.matches(commandOf(message), message)) continue;
    hold.count += 1;
    for (const waiter of hold.waiting) if (hold.count >= waiter.count) waiter.resolve();
    return hold;
  }
  return undefined;
}

const OP_MSG = 2013;

/** The command document of an OP_MSG; other messages (the handshake of old clients) have none. */
function commandOf(message: Buffer): Document {
  const isCommand = message.length > 21 && message.readInt32LE(12) === OP_MSG && message[20] === 0;
  if (!isCommand) return {};
  return BSON.deserialize(message.subarray(21, 21 + message.readInt32LE(21)));
}
