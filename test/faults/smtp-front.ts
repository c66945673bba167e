/** The door to an SMTP server: open, closed for new connections, or so slow that an answer comes letter by letter. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface SmtpFront {
  readonly url: string;
  /** Connections are refused; those that exist stay. */
  refuse(): Promise<void>;
  /** What the server says comes letter by letter, on every connection. */
  drip(everyMs: number): void;
  /** Everything is as it was. */
  heal(): Promise<void>;
  close(): Promise<void>;
}

export async function startSmtpFront(target: number): Promise<SmtpFront> {
  const sockets = new Set<Socket>();
  let everyMs = 0;
  const pass = (from: Socket, to: Socket, slowly: boolean): void => {
    const waiting: number[] = [];
    let timer: NodeJS.Timeout | undefined;
    const next = (): void => {
      timer = undefined;
      const all = everyMs === 0 ? waiting.splice(0) : waiting.splice(0, 1);
      if (!to.destroyed && all.length > 0) to.write(Buffer.from(all));
      if (waiting.length > 0) timer ??= setTimeout(next, everyMs);
    };
    from.on('data', (chunk: Buffer) => {
      if (!slowly || (everyMs === 0 && waiting.length === 0)) to.write(chunk);
      else {
        waiting.push(...chunk);
        timer ??= setTimeout(next, everyMs);
      }
    });
    from.on('error', () => undefined);
    from.on('close', () => {
      clearTimeout(timer);
      sockets.delete(from);
      to.destroy();
    });
  };
  const server = createServer((client) => {
    const upstream = connect(target, '127.0.0.1');
    for (const socket of [client, upstream]) sockets.add(socket);
    pass(client, upstream, false);
    pass(upstream, client, true);
  });
  const listen = (port: number) =>
    new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', () => {
        server.off('error', reject);
        resolve();
      });
    });
  await listen(0);
  const { port } = server.address() as AddressInfo;
  return {
    url: `smtp://127.0.0.1:${port}`,
    // `close` stops listening at once and only then waits for the connections.
    refuse: async () => void server.close(),
    drip: (ms) => {
      everyMs = ms;
    },
    heal: async () => {
      everyMs = 0;
      if (!server.listening) await listen(port);
    },
    close: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
