/**
 * A fixed number of SMTP connections, shared by the sends of one messenger. Opened when needed, kept while they are used.
 * Invariant: a message is tried on a second connection only when the first one, used before, died before anything of the
 * message had left; nothing else is ever repeated here.
 */

import {
  type Envelope,
  openConnection,
  type SmtpAcceptance,
  type SmtpConnection,
  type SmtpServer,
} from './smtp-connection.ts';
import { diedBeforeContent, SmtpFailure } from './smtp-failure.ts';

export interface SmtpPoolOptions {
  /** Most connections at the same time. */
  readonly connections: number;
  /** Milliseconds from having a place among them to the answer to the message. */
  readonly timeoutMs: number;
}

export interface SmtpPool {
  /** Waits for a free connection. Rejects with `SmtpFailure`. */
  deliver(envelope: Envelope, content: Buffer, mayHandOver: () => boolean): Promise<SmtpAcceptance>;
  /** Connects and logs in on a connection of its own. Rejects with `SmtpFailure`. */
  verify(): Promise<void>;
  /** Ends idle connections at once and busy ones after their message, or after a second. */
  close(): Promise<void>;
}

/** A server that takes longer than this to get ready for mail is not well. */
const CONNECT_MS = 10_000;
const CLOSE_MS = 1_000;

export function createSmtpPool(server: SmtpServer, options: SmtpPoolOptions): SmtpPool {
  const all = new Set<SmtpConnection>();
  const idle: SmtpConnection[] = [];
  const waiting: Array<() => void> = [];
  let places = options.connections;
  let closed = false;
  let onAllGone = () => {};

  async function open(withinMs: number): Promise<SmtpConnection> {
    refuseWhenClosed();
    let connection: SmtpConnection | undefined;
    connection = await openConnection(server, Math.max(1, Math.min(CONNECT_MS, withinMs)), () => {
      if (connection !== undefined) gone(connection);
    });
    all.add(connection);
    if (!connection.alive) gone(connection);
    if (closed) connection.cut();
    refuseWhenClosed();
    return connection;
  }

  function gone(connection: SmtpConnection): void {
    all.delete(connection);
    const at = idle.indexOf(connection);
    if (at >= 0) idle.splice(at, 1);
    if (all.size === 0) onAllGone();
  }

  function refuseWhenClosed(): void {
    if (!closed) return;
    const error = Object.assign(new Error('the messenger is closed'), { code: 'ECLOSED' });
    throw new SmtpFailure('connecting', error);
  }

  async function place(): Promise<void> {
    if (places > 0) places -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
  }

  async function giveBack(connection: SmtpConnection | undefined): Promise<void> {
    await connection?.ready();
    if (connection?.alive === true) {
      if (closed) await connection.quit();
      else idle.push(connection);
    }
    const next = waiting.shift();
    if (next === undefined) places += 1;
    else next();
  }

  async function deliver(
    envelope: Envelope,
    content: Buffer,
    mayHandOver: () => boolean,
  ): Promise<SmtpAcceptance> {
    await place();
    const deadline = performance.now() + options.timeoutMs;
    const leftMs = () => deadline - performance.now();
    let connection: SmtpConnection | undefined;
    const sendOn = (chosen: SmtpConnection) => {
      connection = chosen;
      return chosen.send(envelope, content, { withinMs: leftMs(), mayHandOver });
    };
    try {
      const chosen = idle.pop() ?? (await open(leftMs()));
      const usedBefore = chosen.messages > 0;
      try {
        return await sendOn(chosen);
      } catch (error) {
        if (!usedBefore || !(error instanceof SmtpFailure) || !diedBeforeContent(error)) throw error;
      }
      // The server hangs up on connections as it likes. Another idle one would be as old; it makes room for a new one.
      chosen.cut();
      idle.pop()?.cut();
      connection = undefined;
      return await sendOn(await open(leftMs()));
    } finally {
      void giveBack(connection);
    }
  }

  return {
    deliver,
    verify: async () => {
      const connection = await openConnection(server, CONNECT_MS, () => {});
      await connection.quit();
    },
    close: async () => {
      closed = true;
      const quitting = idle.splice(0).map((connection) => connection.quit());
      if (all.size > 0) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, CLOSE_MS);
          onAllGone = () => {
            clearTimeout(timer);
            resolve();
          };
        });
        for (const connection of all) connection.cut();
      }
      await Promise.all(quitting);
    },
  };
}
