/**
 * Logging that can neither throw nor flood. A logger belongs to the host; one that throws inside Agenda's `error` event
 * would be an unhandled rejection, and a database that is away would say the same thing at every poll.
 */
import type { Clock } from '../clock.ts';
import type { Logger } from '../logger.ts';

export function neverThrowing(logger: Logger): Logger {
  const safely =
    (level: keyof Logger) =>
    (fields: object, message: string): void => {
      try {
        logger[level](fields, message);
      } catch {
        // The work goes on; there is no one left to tell.
      }
    };
  return { debug: safely('debug'), info: safely('info'), warn: safely('warn'), error: safely('error') };
}

const MAX_KINDS = 50;

/** Warns of an error at once, then of its like at most every `everyMs`, with the number passed over in between. */
export function warnOncePer(everyMs: number, logger: Logger, clock: Clock) {
  const kinds = new Map<string, { warnedAt: number; repeated: number }>();
  return (error: Error, message: string): void => {
    const kind = error.message.replace(/[0-9a-f]{24}|\d+/g, '#'); // alike but for an id, a port, a connection's number
    const now = clock.monotonic();
    const last = kinds.get(kind);
    if (last && now - last.warnedAt < everyMs) {
      last.repeated += 1;
      return;
    }
    logger.warn(last?.repeated ? { error, repeated: last.repeated } : { error }, message);
    if (kinds.size >= MAX_KINDS) kinds.clear();
    kinds.set(kind, { warnedAt: now, repeated: 0 });
  };
}
