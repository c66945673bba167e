/**
 * Every operation ends. A connection that breaks at the wrong moment can leave an operation of the driver without an
 * answer and without an error for ever: the write goes to a socket that is closed already but has not said so, and no
 * time-out of the driver looks at such a socket. So everything this package asks of MongoDB is given up after a while,
 * like any other failure. Invariant: nothing relies on an operation that was given up not having been done; it is
 * treated as one whose answer was lost.
 */
import { AbstractCursor, type Collection, type Db } from 'mongodb';
import { systemClock } from '../clock.ts';
import { orAtDeadline } from '../deadline.ts';

/** More than the driver's own time-outs of a connection that we make (5 s to find a server, 10 s on a silent socket). */
const LIMIT_MS = 20_000;
/** These may have work to do that grows with the data. */
const LONG_LIMIT_MS = 10 * 60_000;
const LONG: ReadonlySet<string> = new Set(['createIndex', 'createIndexes', 'deleteMany', 'updateMany']);

type Method = (...args: unknown[]) => unknown;

/**
 * The same database, whose operations reject when they have had no answer for too long. `refuse` is called before each
 * operation begins, and throws where none may begin any more.
 */
export function bounded(db: Db, limitMs = LIMIT_MS, refuse: () => void = () => undefined): Db {
  return wrap(db, (name, method) => {
    if (name === 'collection')
      return (...args) => boundedCollection(method(...args) as Collection, limitMs, refuse);
    if (name !== 'command') return method;
    return (...args) => {
      refuse();
      return within(method(...args), name, limitMs);
    };
  });
}

function boundedCollection(collection: Collection, limitMs: number, refuse: () => void): Collection {
  return wrap(collection, (name, method) => {
    const ms = LONG.has(name) ? LONG_LIMIT_MS : limitMs;
    return (...args) => {
      refuse();
      const result = method(...args);
      return result instanceof AbstractCursor ? boundedCursor(result, ms) : within(result, name, ms);
    };
  });
}

function boundedCursor<C extends AbstractCursor>(cursor: C, limitMs: number): C {
  const outside: C = wrap(cursor, (name, method) => {
    return (...args) => {
      const result = method(...args);
      return result === cursor ? outside : within(result, name, limitMs);
    };
  });
  /** One question for each batch, not for each document. */
  async function* documents() {
    try {
      for (;;) {
        const next: unknown = await within(cursor.next(), 'next', limitMs);
        if (next === null) return;
        yield next;
        yield* cursor.readBufferedDocuments();
      }
    } finally {
      if (!cursor.closed) void cursor.close().catch(() => undefined);
    }
  }
  return new Proxy(outside, {
    get: (target, name) => (name === Symbol.asyncIterator ? documents : Reflect.get(target, name)),
  });
}

function within(result: unknown, name: string, ms: number): unknown {
  if (!(result instanceof Promise)) return result;
  return orAtDeadline(result, ms, systemClock, () => {
    throw new NoAnswerError(`MongoDB gave no answer to \`${name}\` within ${ms} ms`);
  });
}

class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError';
}

function wrap<T extends object>(target: T, change: (name: string, method: Method) => Method): T {
  return new Proxy(target, {
    get: (_, name) => {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function' || typeof name !== 'string') return value;
      return change(name, (value as Method).bind(target));
    },
  });
}
