/**
 * An SMTP server that keeps what it gets and misbehaves on demand, for tests and for the example. Built on smtp-server, so
 * that the other side of the wire is not written by us. Invariant: a message counts as received at its final dot, before
 * anything is answered, which is the moment from which a sender cannot know any more.
 */

import type { AddressInfo, Socket } from 'node:net';
import { SMTPServer, type SMTPServerOptions, type SMTPServerSession } from 'smtp-server';

export interface SunkMessage {
  /** Without the angle brackets. */
  readonly messageId: string;
  readonly from: string;
  readonly to: readonly string[];
  /** Headers and body as they came, dots unstuffed. */
  readonly raw: string;
}

/** What the sink does to a message; a number is the reply's code. Nothing given: it behaves. */
export interface SinkPlan {
  /** To MAIL. */
  readonly mail?: number | 'drop' | 'silence' | undefined;
  /** To RCPT. */
  readonly rcpt?: number | 'drop' | 'silence' | undefined;
  /** After the final dot. `drop` hangs up, `silence` never answers. */
  readonly message?: number | 'drop' | 'silence' | undefined;
  /** Milliseconds before the answer to the final dot. */
  readonly delayMs?: number | undefined;
  /** Text of refusals. Default: `as planned`. */
  readonly text?: string | undefined;
}

export interface SmtpSinkOptions {
  /** Default: any free one. */
  readonly port?: number;
  /** Login that is required. Default: none. */
  readonly auth?: { readonly user: string; readonly pass: string };
  /** TLS with a certificate nobody trusts: from the start, or by STARTTLS. Default: none. */
  readonly tls?: 'start' | 'starttls';
  /** Largest message it says it takes, in bytes. Default: any. */
  readonly size?: number;
  /** Replies to a new connection with this code in place of a greeting. */
  readonly greeting?: number;
  /** Called at the final dot, before the answer. Default: the messages are kept in `messages`. */
  readonly onMessage?: (message: SunkMessage) => void;
}

export interface SmtpSink {
  readonly port: number;
  /** `smtp://127.0.0.1:port` or `smtps://…`. */
  readonly url: string;
  readonly messages: SunkMessage[];
  /** Connections there have been. */
  readonly opened: number;
  /** Connections there are. */
  readonly open: number;
  /** What to do from now on, by the sender's and the recipient's address (`to` is empty at MAIL). */
  plan(decide: (mail: { readonly from: string; readonly to: string }) => SinkPlan): void;
  /** Hangs up on everybody. */
  drop(): void;
  /** Resolves when no connection is open. */
  untilNoneOpen(): Promise<void>;
  /** Resolves when at least so many messages have come. */
  untilReceived(count: number): Promise<void>;
  /** Hangs up and stops listening: connections are refused. */
  close(): Promise<void>;
}

export async function startSmtpSink(options: SmtpSinkOptions = {}): Promise<SmtpSink> {
  const sockets = new Map<number, Socket>();
  const messages: SunkMessage[] = [];
  const watchers = new Set<() => void>();
  let decide: (mail: { from: string; to: string }) => SinkPlan = () => ({});
  let opened = 0;
  let received = 0;

  const changed = () => {
    for (const watcher of watchers) watcher();
  };
  const until = (reached: () => boolean) =>
    new Promise<void>((resolve) => {
      const watcher = () => {
        if (!reached()) return;
        watchers.delete(watcher);
        resolve();
      };
      watchers.add(watcher);
      watcher();
    });
  const refusal = (code: number, text = 'as planned') =>
    Object.assign(new Error(text), { responseCode: code });
  const follow = (
    what: number | 'drop' | 'silence' | undefined,
    { text }: SinkPlan,
    session: SMTPServerSession,
    answer: (error?: Error) => void,
  ) => {
    if (what === 'drop') sockets.get(session.remotePort)?.destroy();
    else if (typeof what === 'number') answer(refusal(what, text));
    else if (what === undefined) answer();
  };

  const handlers: SMTPServerOptions = {
    onConnect: (_session, answer) =>
      answer(options.greeting === undefined ? undefined : refusal(options.greeting)),
    onAuth: ({ username, password }, _session, answer) => {
      const right = username === options.auth?.user && password === options.auth?.pass;
      // The worst a server can do: it shows what it was given.
      if (right) answer(null, { user: username });
      else answer(refusal(535, `no such login ${username} ${password}`));
    },
    onMailFrom: (address, session, answer) => {
      const plan = decide({ from: address.address, to: '' });
      follow(plan.mail, plan, session, answer);
    },
    onRcptTo: (address, session, answer) => {
      const plan = decide({ from: fromOf(session), to: address.address });
      follow(plan.rcpt, plan, session, answer);
    },
    onData: (stream, session, answer) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', () => {
        const raw = Buffer.concat(chunks).toString();
        const to = session.envelope.rcptTo.map((recipient) => recipient.address);
        const from = fromOf(session);
        const messageId = /^message-id:\s*<([^>\r\n]*)>/im.exec(raw)?.[1] ?? '';
        const message = { messageId, from, to, raw };
        const plan = decide({ from, to: to[0] ?? '' });
        if (options.onMessage === undefined) messages.push(message);
        else options.onMessage(message);
        received += 1;
        changed();
        const finish = () => follow(plan.message, plan, session, answer);
        if (plan.delayMs === undefined) finish();
        else setTimeout(finish, plan.delayMs);
      });
    },
  };
  const server = new SMTPServer({
    ...handlers,
    ...(options.size === undefined ? {} : { size: options.size }),
    secure: options.tls === 'start',
    authOptional: options.auth === undefined,
    allowInsecureAuth: true,
    disabledCommands: [
      ...(options.tls === 'starttls' ? [] : ['STARTTLS']),
      ...(options.auth === undefined ? ['AUTH'] : []),
    ],
    disableReverseLookup: true,
    logger: false,
    closeTimeout: 1,
  });
  // A peer that hangs up in the middle is what the tests are about.
  server.on('error', () => {});
  server.server.on('connection', (socket: Socket) => {
    const port = socket.remotePort as number;
    opened += 1;
    sockets.set(port, socket);
    socket.once('close', () => {
      sockets.delete(port);
      changed();
    });
    changed();
  });
  await new Promise<void>((resolve, reject) => {
    server.server.once('error', reject);
    server.listen(options.port ?? 0, '127.0.0.1', resolve);
  });
  const { port } = server.server.address() as AddressInfo;
  const drop = () => {
    for (const socket of sockets.values()) socket.destroy();
  };

  return {
    port,
    url: `${options.tls === 'start' ? 'smtps' : 'smtp'}://127.0.0.1:${port}`,
    messages,
    get opened() {
      return opened;
    },
    get open() {
      return sockets.size;
    },
    plan: (next) => {
      decide = next;
    },
    drop,
    untilNoneOpen: () => until(() => sockets.size === 0),
    untilReceived: (count) => until(() => received >= count),
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        drop();
      }),
  };
}

function fromOf(session: SMTPServerSession): string {
  const { mailFrom } = session.envelope;
  return mailFrom === false ? '' : mailFrom.address;
}
