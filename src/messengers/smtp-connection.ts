/**
 * One SMTP connection: opened and logged in, then one message after another. Built on nodemailer's connection and not on
 * its pool, because the pool repeats messages by itself and cannot say whether a lost one had left. Invariant: the phase
 * of a failure is `content` from just before the first byte of the message is written.
 */

import { Readable, type Writable } from 'node:stream';
import type { ConnectionOptions } from 'node:tls';
import { CampaignSchedulerError } from '../errors.ts';
import { SmtpFailure, type SmtpPhase } from './smtp-failure.ts';

/** Where and how to connect; the names are nodemailer's. */
export interface SmtpServer {
  readonly host: string;
  /** Default: 465 when `secure`, else 587. */
  readonly port?: number | undefined;
  /** TLS from the first byte. Default: true on port 465, else STARTTLS when the server offers it. */
  readonly secure?: boolean | undefined;
  /** Refuses to go on without STARTTLS. Default: false. */
  readonly requireTLS?: boolean | undefined;
  /** Does not use STARTTLS even when offered. Default: false. */
  readonly ignoreTLS?: boolean | undefined;
  readonly auth?: { readonly user: string; readonly pass: string } | undefined;
  /** Options of `tls.connect`. */
  readonly tls?: ConnectionOptions | undefined;
  /** What this client calls itself in EHLO. Default: the machine's name. */
  readonly name?: string | undefined;
}

export interface Envelope {
  readonly from: string;
  readonly to: string;
}

export interface HandOverTerms {
  /** Milliseconds until the answer to the message has to be there. */
  readonly withinMs: number;
  /** Asked at the last moment at which the message can still be held back. */
  readonly mayHandOver: () => boolean;
}

export interface SmtpConnection {
  /** False once the connection has ended, from whichever side. */
  readonly alive: boolean;
  /** Messages tried on it, so that a failure of the first one is told from one of a connection gone stale. */
  readonly messages: number;
  /** Sends one message at a time; resolves with the server's answer, rejects with `SmtpFailure`. */
  send(envelope: Envelope, content: Buffer, terms: HandOverTerms): Promise<SmtpAcceptance>;
  /** Resolves when the connection can take another message, or is no longer alive. */
  ready(): Promise<void>;
  /** Says goodbye; resolves when the server has hung up or half a second has passed. */
  quit(): Promise<void>;
  /** Ends it without a word. */
  cut(): void;
}

export interface SmtpAcceptance {
  readonly response: string;
  /** The id that some providers give the message in place of its own. */
  readonly serverMessageId?: string | undefined;
}

const QUIT_MS = 500;
/** A connection on which nothing happens for so long is given up. */
const IDLE_MS = 25_000;

/**
 * Connects and logs in. Rejects with `SmtpFailure` of the phase `connecting`.
 *
 * @param withinMs milliseconds until the connection has to be ready for mail
 * @param onEnd called once, when the connection has ended, from whichever side
 */
export async function openConnection(
  server: SmtpServer,
  withinMs: number,
  onEnd: () => void,
): Promise<SmtpConnection> {
  const { default: SMTPConnection } = await loadNodemailer();
  const { auth, ...rest } = server;
  const inner = new SMTPConnection({
    ...rest,
    connectionTimeout: withinMs,
    greetingTimeout: withinMs,
    dnsTimeout: withinMs,
    socketTimeout: IDLE_MS,
    socketCloseTimeout: QUIT_MS,
  });
  let alive = true;
  let messages = 0;
  let reset: Promise<void> = Promise.resolve();
  let onLost: (reason: Error) => void = () => {};
  // Every failure reaches the one who is waiting as well; without a listener Node would end the process.
  inner.on('error', () => {});
  inner.once('end', () => {
    alive = false;
    // The reason, where there is one, is told in the same turn and comes first.
    const tell = onLost;
    queueMicrotask(() => tell(ended()));
    onEnd();
  });
  const cut = () => inner.close();

  await new Promise<void>((resolve, reject) => {
    const fail = (error: unknown) => {
      clearTimeout(timer);
      inner.off('error', fail);
      // First the reason, then the end that follows from it.
      reject(new SmtpFailure('connecting', error));
      inner.close();
    };
    const done = () => {
      clearTimeout(timer);
      inner.off('error', fail);
      resolve();
    };
    const timer = setTimeout(() => fail(timedOut('the connection was not ready in time')), withinMs);
    inner.on('error', fail);
    inner.once('end', () => fail(ended()));
    inner.connect((error) => {
      if (error) fail(error);
      else if (auth === undefined || !inner.allowsAuth) done();
      else inner.login({ ...auth }, (refused) => (refused ? fail(refused) : done()));
    });
  });

  const send: SmtpConnection['send'] = (envelope, content, terms) => {
    messages += 1;
    const deadline = performance.now() + terms.withinMs;
    return new Promise((resolve, reject) => {
      let phase: SmtpPhase = 'envelope';
      let settled = false;
      const settle = (finish: () => void) => {
        if (settled) return;
        settled = true;
        clearTimeout(timer);
        finish();
      };
      const fail = (error: unknown) => settle(() => reject(new SmtpFailure(phase, error)));
      const giveUp = (error: Error) => {
        fail(error);
        inner.close();
      };
      onLost = fail;
      const timer = setTimeout(() => giveUp(timedOut('the server did not answer in time')), terms.withinMs);
      const message = new HandOver(content, (write) => {
        if (settled) return;
        // The clock as well as the timer: a process that was stopped wakes up with its timers overdue.
        if (performance.now() >= deadline || !terms.mayHandOver()) {
          giveUp(withCode('EABORT', 'given up before the message was handed over'));
          return;
        }
        phase = 'content';
        // The message and its final dot then leave in one packet.
        const socket = inner._socket;
        if (socket) socket.cork();
        write();
        if (socket) setImmediate(() => socket.uncork());
      });
      inner.send({ from: envelope.from, to: [envelope.to], size: content.length }, message, (error, info) => {
        if (error === null && info !== undefined) return settle(() => resolve(info));
        const failure = new SmtpFailure(phase, error);
        // Without an answer to the message itself the session is in an unknown state, or gone.
        if (failure.replyCode === undefined || failure.replyCode === 421) inner.close();
        else reset = resetSession();
        settle(() => reject(failure));
      });
    });
  };

  /** A refused message leaves its sender set; RSET makes the connection fit for the next one. */
  const resetSession = () =>
    new Promise<void>((resolve) => {
      inner.once('end', resolve);
      inner.reset((error) => {
        inner.off('end', resolve);
        if (error) inner.close();
        resolve();
      });
    });

  return {
    get alive() {
      return alive;
    },
    get messages() {
      return messages;
    },
    send,
    ready: () => reset,
    cut,
    quit: () =>
      new Promise<void>((resolve) => {
        if (!alive) return resolve();
        const timer = setTimeout(cut, QUIT_MS);
        inner.once('end', () => {
          clearTimeout(timer);
          resolve();
        });
        inner.quit();
      }),
  };
}

/** A message that knows when it is wanted: a connection calls `pipe` when the server has said that it may come. */
class HandOver extends Readable {
  readonly #content: Buffer;
  readonly #onWanted: (write: () => void) => void;

  constructor(content: Buffer, onWanted: (write: () => void) => void) {
    super();
    this.#content = content;
    this.#onWanted = onWanted;
  }

  override pipe<T extends Writable | NodeJS.WritableStream>(target: T): T {
    this.#onWanted(() => target.end(this.#content));
    return target;
  }

  /** Only reached if a connection reads without `pipe`: then nothing may leave unseen. */
  override _read(): void {
    this.destroy(new Error('a message can only be piped'));
  }
}

async function loadNodemailer(): Promise<typeof import('nodemailer/lib/smtp-connection')> {
  try {
    return await import('nodemailer/lib/smtp-connection');
  } catch (error) {
    const message = 'Sending mail needs the package `nodemailer` (version 10): npm install nodemailer';
    throw new CampaignSchedulerError('invalid_options', message, { cause: error });
  }
}

function timedOut(message: string): Error {
  return withCode('ETIMEDOUT', message);
}

function ended(): Error {
  return withCode('ECONNECTION', 'the connection ended');
}

function withCode(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
