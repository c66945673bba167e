/**
 * Raises and clears alerts: stores them, then tells listeners, the log and the sinks. Invariant: nothing here rejects, and
 * of several workers that see the same trouble one tells it. While MongoDB is away the last word on each key is kept, up
 * to a bound, and tried again. A process that dies between the write and the telling has stored the alert, no more.
 */
import { randomUUID } from 'node:crypto';
import pLimit from 'p-limit';
import type { Clock } from '../clock.ts';
import { type AlertNews, onGone, onSeen } from '../core/alert-policy.ts';
import { cutUtf8 } from '../core/retry.ts';
import type { EventBus } from '../events.ts';
import type { Logger } from '../logger.ts';
import {
  type Alert,
  alertOf,
  clearAlert,
  countRaised,
  raiseAlert,
  raisedAlerts,
  readAlert,
  readAlerts,
  updateAlert,
} from '../store/alerts.ts';
import { type AlertDoc, SCHEMA_VERSION } from '../store/documents.ts';
import type { Store } from '../store/store.ts';
import { AlertTeller, type AlertTellerOptions } from './alert-teller.ts';

export type { AlertNews } from '../core/alert-policy.ts';

export interface Alerter {
  /** The trouble is there. Deduplicated by key; never rejects. */
  raise(news: AlertNews): Promise<void>;
  /** The trouble with this key is gone, if it ever was there. Never rejects. */
  clear(key: string): Promise<void>;
  /** What is raised of these kinds, and what nobody has been told of. Rejects when it cannot be read. */
  raised(kinds: readonly string[]): Promise<AlertDoc[]>;
  /**
   * All that is there of these kinds: what is among `raised`, as read before it was looked for, and not in the news is
   * cleared. What is raised of other kinds since a cool-down that is over is told. What somebody has changed since is left
   * alone, however long ago it was read. Rejects when nothing can be read.
   */
  settle(kinds: readonly string[], news: readonly AlertNews[], raised: readonly AlertDoc[]): Promise<void>;
  /** Waits a moment for sinks. */
  stop(): Promise<void>;
}

export interface AlerterOptions extends AlertTellerOptions {
  readonly store: Store;
  readonly events: EventBus;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly serverNow: () => Date;
  readonly cooldownMs: number;
}

/** What is to be written; `news` absent: the trouble is gone. */
interface Word {
  readonly key: string;
  readonly news?: AlertNews;
  readonly token: string;
  /** Grows with every word. */
  readonly n: number;
  /** As read just now. */
  known?: AlertDoc | null | undefined;
  /** It is said of what stood there with this `rev`: of anything newer it says nothing. */
  readonly rev?: number;
  /** What was being written when the answer was lost. */
  writing?: { readonly tell: boolean };
}

/** Most alerts that are raised at a time; enough for anybody to read. */
const MOST_RAISED = 1_000;
/** Words that are being written or wait for MongoDB. */
const MOST_WORDS = 2_000;
const AT_ONCE = 8;
/** Where as many are raised as may be, they are not counted again for each of thousands. */
const FULL_MS = 5_000;
const TRIES = 5;
const AGAIN_MS = 2_000;
const SINKS_MS = 2_000;
const MAX_KEY_BYTES = 300;
const MAX_MESSAGE_BYTES = 1_000;
const MAX_DETAIL_CHARACTERS = 4_000;

const TOO_MANY: AlertNews = {
  key: 'alerts:too-many',
  kind: 'too_many_alerts',
  level: 'warning',
  message: `${MOST_RAISED} alerts are raised: further ones are not stored until some are cleared`,
};

export function createAlerter(options: AlerterOptions): Alerter {
  const { store, events, logger, clock, serverNow, cooldownMs } = options;
  const teller = new AlertTeller(options);
  const inTurn = pLimit(AT_ONCE);
  /** The last word on each key that could not be written. */
  const later = new Map<string, Word>();
  /** What was said of a key is written in the order in which it was said. */
  const tails = new Map<string, Promise<void>>();
  let cancel: (() => void) | undefined;
  let stopped = false;
  let words = 0;
  let writing = 0;
  let dropped = 0;
  let failing = false;
  let fullUntil = Number.NEGATIVE_INFINITY;
  let stopping: Promise<void> | undefined;

  const told = (document: AlertDoc): void => {
    const alert: Alert = alertOf(document);
    const { key, kind, level, message, detail, campaignId, state } = alert;
    const fields = { alert: key, kind, ...(campaignId === undefined ? {} : { campaignId }), ...detail };
    events.emit(state === 'raised' ? 'alert:raised' : 'alert:cleared', { alert });
    if (state === 'cleared') logger.info(fields, `over: ${message}`);
    else if (level === 'critical') logger.error(fields, message);
    else if (level === 'warning') logger.warn(fields, message);
    else logger.info(fields, message);
    teller.tell(alert);
  };

  const isFull = async (): Promise<boolean> => {
    if (clock.monotonic() < fullUntil) return true;
    const full = (await countRaised(store, MOST_RAISED)) >= MOST_RAISED;
    if (full) fullUntil = clock.monotonic() + FULL_MS;
    return full;
  };

  /** One decision and its write. True: done. */
  const step = async (word: Word): Promise<boolean> => {
    const { key, news, token } = word;
    const read = word.known === undefined ? await readAlert(store, key) : word.known;
    delete word.known;
    if (read !== null && read.token === token && word.writing !== undefined) {
      if (word.writing.tell) told(read); // written after all: the answer was lost
      return true;
    }
    if (word.rev !== undefined && (read?.rev ?? 0) !== word.rev) return true; // whoever changed it knows more
    if ((read?.schemaVersion ?? 0) > SCHEMA_VERSION) return true; // a newer version's
    const write = async (tell: boolean, act: () => Promise<AlertDoc | null>): Promise<boolean> => {
      word.writing = { tell };
      const written = await act();
      if (written !== null && tell) told(written);
      return written !== null;
    };
    if (news === undefined) {
      const decision = onGone(read ?? undefined);
      if (decision.action === 'none') return true;
      const { tell } = decision;
      return write(tell, () => clearAlert(store, key, { read, token, tell }, cooldownMs));
    }
    const full = read?.state !== 'raised' && key !== TOO_MANY.key && (await isFull());
    const decision = onSeen(read ?? undefined, news.level, serverNow(), full);
    switch (decision.action) {
      case 'keep':
        return true;
      case 'suppress':
        if (!tails.has(TOO_MANY.key)) void say(TOO_MANY.key, TOO_MANY);
        return true;
      case 'raise': {
        const { tell } = decision;
        return write(tell, () => raiseAlert(store, news, { read, token, tell }));
      }
      case 'update': {
        const { tell, level } = decision;
        return write(tell, () => updateAlert(store, { ...news, level }, { read, token, tell }));
      }
    }
  };

  const apply = async (word: Word): Promise<void> => {
    const isNewest = (): boolean => (later.get(word.key)?.n ?? -1) < word.n;
    try {
      for (let tries = 0; tries < TRIES; tries += 1) if (await step(word)) break;
      if (isNewest()) later.delete(word.key);
    } catch (error) {
      if (stopped) return;
      if (!failing) logger.warn({ error, alert: word.key }, 'alerts cannot be stored; trying again');
      failing = true;
      if (isNewest()) later.set(word.key, word);
      cancel ??= clock.schedule(AGAIN_MS, again);
    }
  };

  /** Tries everything again that could not be written. */
  const again = (): void => {
    cancel = undefined;
    const waiting = [...later.values()];
    later.clear();
    void Promise.all(waiting.map(enqueue)).then(() => {
      if (later.size > 0 || stopped) return;
      failing = false;
      logger.info({ alerts: waiting.length }, 'alerts are stored again');
    });
  };

  const enqueue = (word: Word): Promise<void> => {
    const { key } = word;
    writing += 1;
    const tail = (tails.get(key) ?? Promise.resolve()).then(() => inTurn(() => apply(word)));
    tails.set(key, tail);
    return tail.finally(() => {
      writing -= 1;
      if (tails.get(key) === tail) tails.delete(key);
    });
  };

  const say = (rawKey: string, news?: AlertNews, known?: AlertDoc | null): Promise<void> => {
    if (stopped) return Promise.resolve();
    const key = cutUtf8(rawKey, MAX_KEY_BYTES);
    words += 1;
    const about = news === undefined ? {} : { news: short(key, news) };
    const of = known === undefined ? {} : { known, rev: known?.rev ?? 0 };
    const word: Word = { key, token: randomUUID(), n: words, ...of, ...about };
    if (later.has(key)) {
      later.set(key, word);
      return Promise.resolve();
    }
    if (writing + later.size >= MOST_WORDS) {
      dropped += 1;
      if (dropped === 1) logger.error({ alert: key }, 'too many alerts at once: some are dropped');
      return Promise.resolve();
    }
    dropped = 0;
    return enqueue(word);
  };

  return {
    raise: (news) => say(news.key, news),
    clear: (key) => say(key),
    raised: (kinds) => raisedAlerts(store, [...kinds, TOO_MANY.kind]),
    settle: async (kinds, news, raised) => {
      const seen = new Map(news.map((one) => [cutUtf8(one.key, MAX_KEY_BYTES), one]));
      const stored = new Map(raised.map((alert) => [alert._id, alert]));
      const others = [...seen.keys()].filter((key) => !stored.has(key));
      if (others.length > 0) {
        for (const alert of await readAlerts(store, others)) stored.set(alert._id, alert);
      }
      const now = serverNow();
      const saying = [...seen].flatMap(([key, one]) => {
        const decision = onSeen(stored.get(key), one.level, now, false);
        return decision.action === 'keep' ? [] : [say(key, one, stored.get(key) ?? null)];
      });
      for (const alert of raised) {
        const over =
          alert._id === TOO_MANY.key
            ? (await countRaised(store, MOST_RAISED)) < MOST_RAISED * 0.9
            : kinds.includes(alert.kind) && !seen.has(alert._id);
        if (over) saying.push(say(alert._id, undefined, alert));
        else if (!seen.has(alert._id) && isDue(alert, now)) {
          saying.push(say(alert._id, alertOf(alert), alert));
        }
      }
      await Promise.all(saying);
    },
    stop: () => {
      stopped = true;
      cancel?.();
      stopping ??= teller.stop(SINKS_MS);
      return stopping;
    },
  };
}

/** It came back within its cool-down, nobody has seen its end, and who raised it does not raise it again. */
function isDue(alert: AlertDoc, now: Date): boolean {
  const decision = onSeen(alert, alert.level, now, false);
  return decision.action === 'update' && decision.tell;
}

function isSmall(detail: AlertNews['detail']): detail is NonNullable<AlertNews['detail']> {
  try {
    return detail !== undefined && JSON.stringify(detail).length <= MAX_DETAIL_CHARACTERS;
  } catch {
    return false; // no JSON: it could not be shown either
  }
}

/** Whatever a caller puts in, a document stays small. */
function short(key: string, news: AlertNews): AlertNews {
  const { kind, level, campaignId, detail } = news;
  const message = cutUtf8(news.message, MAX_MESSAGE_BYTES);
  const about = campaignId === undefined ? {} : { campaignId };
  return { key, kind, level, message, ...about, ...(isSmall(detail) ? { detail } : {}) };
}
