/**
 * Tells alerts to the sinks. Invariant: a sink that hangs, throws or is slow harms nobody: each has its own queue, which is
 * bounded, and each telling has an end. Thousands of alerts at once are told as the first few and one that counts the rest.
 */
import type { Clock } from '../clock.ts';
import { ALERT_LEVELS, type AlertLevel, rankOf } from '../core/alert-policy.ts';
import { describeError } from '../core/retry.ts';
import { orAtDeadline } from '../deadline.ts';
import type { Logger } from '../logger.ts';
import type { Messenger } from '../messengers/messenger.ts';
import type { Alert } from '../store/alerts.ts';
import type { AlertSink } from './alert-sinks.ts';

export interface AlertTellerOptions {
  readonly sinks: readonly AlertSink[];
  readonly messengers: Readonly<Record<string, Messenger>>;
  readonly minimumLevel: AlertLevel;
  /** Most tellings of one minute. */
  readonly perMinute: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

const MINUTE_MS = 60_000;
const SINK_TIMEOUT_MS = 10_000;
const RETRY_AFTER_MS = [1_000, 5_000];
/** Alerts that wait for one sink. */
const MOST_QUEUED = 200;

export class AlertTeller {
  readonly #options: AlertTellerOptions;
  readonly #queues: readonly SinkQueue[];
  #minute = { from: Number.NEGATIVE_INFINITY, told: 0 };
  #more = emptyMore();
  #cancel: (() => void) | undefined;

  constructor(options: AlertTellerOptions) {
    this.#options = options;
    this.#queues = options.sinks.map(
      (sink, index) => new SinkQueue(sink, `${sink.name || 'sink'} ${index + 1}`, options),
    );
  }

  /** Waits for nobody and never throws. */
  tell(alert: Alert): void {
    const { clock, minimumLevel, perMinute } = this.#options;
    if (this.#queues.length === 0 || rankOf(alert.level) < rankOf(minimumLevel)) return;
    const now = clock.monotonic();
    if (now - this.#minute.from >= MINUTE_MS) {
      this.#tellMore();
      this.#minute = { from: now, told: 0 };
    }
    if (this.#minute.told < perMinute) {
      this.#minute.told += 1;
      this.#put(alert);
      return;
    }
    this.#more.count[alert.state] += 1;
    if (rankOf(alert.level) > rankOf(this.#more.level)) this.#more.level = alert.level;
    this.#more.at = alert.lastSeenAt;
    this.#cancel ??= clock.schedule(this.#minute.from + MINUTE_MS - now, () => this.#tellMore());
  }

  /** Waits at most this long for what is still to be told, then gives it up. */
  async stop(ms: number): Promise<void> {
    this.#tellMore();
    const { clock } = this.#options;
    await orAtDeadline(Promise.all(this.#queues.map((queue) => queue.done)), ms, clock, () => []);
    for (const queue of this.#queues) queue.end();
  }

  /** One alert that says how many were not told. */
  #tellMore(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    const { count, level, at } = this.#more;
    const total = count.raised + count.cleared;
    if (total === 0) return;
    this.#more = emptyMore();
    this.#put({
      key: 'alerts:more',
      kind: 'more_alerts',
      level,
      message: `and ${total} more (${count.raised} raised, ${count.cleared} cleared) within a minute: see the list of alerts`,
      detail: { ...count },
      state: 'raised',
      raisedAt: at,
      lastSeenAt: at,
      clearedAt: null,
      count: total,
    });
  }

  #put(alert: Alert): void {
    for (const queue of this.#queues) queue.put(alert);
  }
}

function emptyMore(): { count: { raised: number; cleared: number }; level: AlertLevel; at: Date } {
  return { count: { raised: 0, cleared: 0 }, level: ALERT_LEVELS[0], at: new Date(0) };
}

class SinkQueue {
  /** Resolves when nothing waits. */
  done: Promise<void> = Promise.resolve();
  readonly #sink: AlertSink;
  readonly #name: string;
  readonly #options: AlertTellerOptions;
  readonly #end = new AbortController();
  #waiting: Alert[] = [];
  #dropped = 0;
  #busy = false;
  #failing = false;

  constructor(sink: AlertSink, name: string, options: AlertTellerOptions) {
    this.#sink = sink;
    this.#name = name;
    this.#options = options;
  }

  put(alert: Alert): void {
    if (this.#end.signal.aborted) return;
    if (this.#waiting.length >= MOST_QUEUED) {
      if (this.#dropped === 0) {
        this.#options.logger.warn(
          { sink: this.#name },
          'an alert sink is too slow: some alerts are not told to it',
        );
      }
      this.#dropped += 1; // the oldest stay: they say how it began
      return;
    }
    this.#waiting.push(alert);
    if (!this.#busy) this.done = this.#work();
  }

  end(): void {
    this.#end.abort(new Error('the scheduler has stopped'));
    this.#waiting = [];
  }

  async #work(): Promise<void> {
    this.#busy = true;
    for (let alert = this.#waiting.shift(); alert !== undefined; alert = this.#waiting.shift()) {
      await this.#tell(alert);
    }
    this.#busy = false;
    this.#dropped = 0;
  }

  async #tell(alert: Alert): Promise<void> {
    const { logger } = this.#options;
    for (let tries = 0; !this.#end.signal.aborted; tries += 1) {
      try {
        await this.#once(alert);
        if (this.#failing) logger.info({ sink: this.#name }, 'an alert sink works again');
        this.#failing = false;
        return;
      } catch (error) {
        const pauseMs = RETRY_AFTER_MS[tries];
        if (!this.#failing) {
          logger.warn(
            { sink: this.#name, alert: alert.key, error: describeError(error).reason },
            'an alert could not be told; the list of alerts has it',
          );
        }
        this.#failing = true;
        if (pauseMs === undefined) return;
        await this.#pause(pauseMs);
      }
    }
  }

  /** Until the end at the latest. */
  async #pause(ms: number): Promise<void> {
    const { signal } = this.#end;
    let wake = (): void => undefined;
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    signal.addEventListener('abort', wake);
    const cancel = this.#options.clock.schedule(ms, wake);
    await woken;
    cancel();
    signal.removeEventListener('abort', wake);
  }

  async #once(alert: Alert): Promise<void> {
    const { clock, messengers } = this.#options;
    const controller = new AbortController();
    const stop = (): void => controller.abort(this.#end.signal.reason);
    this.#end.signal.addEventListener('abort', stop, { once: true });
    try {
      const telling = (async () => this.#sink(alert, { signal: controller.signal, messengers }))();
      await orAtDeadline<unknown>(telling, SINK_TIMEOUT_MS, clock, () => {
        throw new Error(`no answer within ${SINK_TIMEOUT_MS} ms`);
      });
    } finally {
      this.#end.signal.removeEventListener('abort', stop);
      controller.abort(new Error('the telling has ended'));
    }
  }
}
