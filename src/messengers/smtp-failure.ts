/**
 * What a failed SMTP dialogue means for the recipient. Pure. Invariant: `permanent` and `transient` are only said of a
 * message that the server has answered with a no; once its content was handed over, anything but an answer is `unknown`.
 */

import type { FailureKind } from '../core/retry.ts';

/**
 * How far the dialogue had come. nodemailer's own `command` cannot tell: it is `CONN` for every broken connection.
 *
 * - `connecting`: up to a connection that is ready for mail (DNS, TCP, TLS, greeting, login)
 * - `envelope`: MAIL, RCPT and DATA, up to the server's 354; not one byte of the message has been written
 * - `content`: the message was handed to the connection
 */
export type SmtpPhase = 'connecting' | 'envelope' | 'content';

/** A dialogue that ended without an acceptance, as the connection saw it. */
export class SmtpFailure extends Error {
  override readonly name = 'SmtpFailure';
  readonly phase: SmtpPhase;
  /** `ECONNREFUSED`, `EENVELOPE`, …: the system's code where there is one, else nodemailer's. */
  readonly code: string | undefined;
  /** `MAIL FROM`, `RCPT TO`, `DATA`; `CONN` for a connection that broke, whenever that was. */
  readonly command: string | undefined;
  /** Reply of the server, 400 to 599. */
  readonly replyCode: number | undefined;

  constructor(phase: SmtpPhase, error: unknown) {
    const read = (key: string): unknown =>
      typeof error === 'object' && error !== null ? Reflect.get(error, key) : undefined;
    const text = (value: unknown) => (typeof value === 'string' && value !== '' ? value : undefined);
    super(text(read('message')) ?? 'the mail failed without a reason');
    this.phase = phase;
    this.code = text(read('originalCode')) ?? text(read('code'));
    this.command = text(read('command'));
    const reply = read('responseCode');
    this.replyCode = typeof reply === 'number' && reply >= 400 && reply < 600 ? reply : undefined;
  }
}

export interface SmtpVerdict {
  readonly kind: FailureKind;
  /** The reply's number, else the error's code. */
  readonly code: string | undefined;
}

/** Refusals that are about this client and not about the message: log in first, wrong password, wrong order. */
const ABOUT_THE_SESSION: ReadonlySet<number> = new Set([421, 503, 530, 534, 535, 538]);

const CONNECTION_DIED: ReadonlySet<string> = new Set(['ECONNECTION', 'ESOCKET', 'ECONNRESET', 'EPIPE']);

export function judge(failure: SmtpFailure): SmtpVerdict {
  const code = failure.replyCode === undefined ? failure.code : String(failure.replyCode);
  return { kind: kindOf(failure), code };
}

/** The connection died before anything of the message left: on another connection it can go at once. */
export function diedBeforeContent({ phase, code, replyCode }: SmtpFailure): boolean {
  if (phase !== 'envelope') return false;
  return replyCode === 421 || (code !== undefined && CONNECTION_DIED.has(code));
}

function kindOf(failure: SmtpFailure): FailureKind {
  const { phase, replyCode } = failure;
  if (phase === 'connecting') return 'provider';
  if (!isAnswer(failure)) return phase === 'content' ? 'unknown' : 'provider';
  // Refused by nodemailer itself: a mail larger than the server said it takes, an impossible address.
  if (replyCode === undefined) return 'permanent';
  if (ABOUT_THE_SESSION.has(replyCode)) return 'provider';
  if (replyCode < 500) return 'transient';
  // A sender that is refused for one recipient is refused for all of them.
  return failure.command === 'MAIL FROM' ? 'provider' : 'permanent';
}

/** Did somebody refuse this very message, or did the dialogue only end? */
function isAnswer({ phase, code, command, replyCode }: SmtpFailure): boolean {
  if (phase === 'content') return code === 'EMESSAGE' && command === 'DATA' && replyCode !== undefined;
  if (code === 'EMESSAGE') return true;
  return code === 'EENVELOPE' && (replyCode !== undefined || command === 'API');
}
