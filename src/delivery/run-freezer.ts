/**
 * Freezes the audiences of open runs. A list was frozen when the campaign was created: its run only adopts it. A named
 * source is read by one worker at a time, under a lease in the audience document that others watch; every attempt makes a
 * new audience, and only the run's guarded write says which one counts.
 */
import { randomUUID } from 'node:crypto';
import type { AudienceSource } from '../audience-input.ts';
import type { Clock } from '../clock.ts';
import { freezeRetryMs, MAX_FREEZE_ATTEMPTS } from '../core/freezing.ts';
import { Watch } from '../core/liveness.ts';
import { describeError } from '../core/retry.ts';
import { inParallel } from '../in-parallel.ts';
import type { Logger } from '../logger.ts';
import {
  beginAudience,
  declareDead,
  endAudience,
  type FreezingAttempts,
  freezingAttempts,
} from '../store/audiences.ts';
import type { RunDoc } from '../store/documents.ts';
import type { Store } from '../store/store.ts';
import { adopt, adoptList } from './adopt-audience.ts';
import { keepLease } from './audience-lease.ts';
import { type Frozen, freezeRows } from './freeze-audience.ts';

const AT_ONCE = 2;
/** Lists only have to be adopted: a few short writes each. */
const LISTS_AT_ONCE = 16;

export interface RunFreezerOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly serverNow: () => Date;
  readonly logger: Logger;
  readonly workerId: string;
  readonly claimTtlMs: number;
  readonly pageSize: number;
  readonly sources: Readonly<Record<string, AudienceSource>>;
  /** Something about this run has changed: look again at once. */
  readonly onChange: () => void;
  /** The audience of a source is durable. */
  readonly onFrozen: (run: RunDoc, frozen: Frozen) => Promise<void>;
  /** All attempts failed. */
  readonly onFailed: (run: RunDoc, detail: string) => Promise<void>;
}

export class RunFreezer {
  readonly #options: RunFreezerOptions;
  readonly #watch = new Watch();
  readonly #running = new Map<
    string,
    { runId: string; stop: (reason: Error) => void; done: Promise<void> }
  >();
  #stopping = false;

  constructor(options: RunFreezerOptions) {
    this.#options = options;
  }

  /** Ends the attempts of this worker for runs that wait for no audience any more: a source that hangs gives its place back. */
  keepOnly(freezing: ReadonlySet<string>): void {
    for (const { runId, stop } of this.#running.values()) {
      if (!freezing.has(runId)) stop(new Error('the run waits for no audience any more'));
    }
  }

  /** Takes the next step for each of these freezing runs. Called at every poll. */
  async advance(runs: readonly RunDoc[]): Promise<void> {
    if (this.#stopping) return;
    const { store, clock, sources } = this.#options;
    const lists = runs.filter((run) => 'audienceId' in run.audience);
    await inParallel(lists, LISTS_AT_ONCE, async (run) => {
      if (!this.#stopping) await this.#alone(run, () => this.#adoptList(run));
    });

    const own = runs.filter((run) => 'source' in run.audience && Object.hasOwn(sources, run.audience.source));
    const askedAt = clock.monotonic();
    let attempts: Map<string, FreezingAttempts>;
    try {
      attempts = await freezingAttempts(
        store,
        own.map((run) => run._id),
      );
    } catch (error) {
      this.#watch.forget();
      throw error;
    }
    const freezing = [...attempts.values()].flatMap(({ latest }) =>
      latest.state === 'freezing' ? [latest] : [],
    );
    const dead = new Set(
      this.#watch
        .look(
          freezing
            .filter(
              (attempt) =>
                attempt.lease.workerId !== this.#options.workerId || !this.#running.has(attempt._id),
            )
            .map((attempt) => ({ key: attempt._id, ...attempt.lease })),
          askedAt,
          clock.monotonic(),
        )
        .map((sighting) => sighting.key),
    );
    for (const run of own)
      await this.#alone(run, () => this.#advanceSource(run, attempts.get(run._id), dead));
  }

  /** Ends every attempt of this worker. They do not count as failures; another worker begins anew. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping = true;
    const running = [...this.#running.values()];
    for (const attempt of running) attempt.stop(new Error('the worker is stopping'));
    const ended = Promise.all(running.map((attempt) => attempt.done));
    await Promise.race([
      ended,
      new Promise((resolve) => this.#options.clock.schedule(timeoutMs, () => resolve(null))),
    ]);
  }

  /** What goes wrong with one run must not stop the others. */
  async #alone(run: RunDoc, step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch (error) {
      this.#options.logger.warn({ error, campaign: run.name }, 'a step of freezing failed; trying again');
    }
  }

  async #adoptList(run: RunDoc): Promise<void> {
    if (await adoptList(this.#options.store, run)) return;
    await this.#options.onFailed(run, 'the frozen audience of this campaign is gone');
  }

  async #advanceSource(
    run: RunDoc,
    attempts: FreezingAttempts | undefined,
    dead: ReadonlySet<string>,
  ): Promise<void> {
    const { store, serverNow, onChange } = this.#options;
    const { latest, number = 0, failed = [] } = attempts ?? {};
    switch (latest?.state) {
      case 'ready': // frozen, and the worker died before the run adopted it
        await adopt(store, run, latest);
        return onChange();
      case 'freezing':
        if (dead.has(latest._id)) await declareDead(store, latest, 'the worker that read the source died');
        return;
      case 'failed': {
        const failures = failed.filter((attempt) => attempt > run.freezeBase).length;
        if (failures >= MAX_FREEZE_ATTEMPTS)
          return this.#options.onFailed(run, latest.error ?? 'unknown reason');
        if (serverNow().getTime() - latest.touchedAt.getTime() < freezeRetryMs(failures)) return;
        return this.#begin(run, number + 1);
      }
      default: // none yet, or given up without counting
        return this.#begin(run, number + 1);
    }
  }

  async #begin(run: RunDoc, attempt: number): Promise<void> {
    const { store, workerId, claimTtlMs, logger } = this.#options;
    if (this.#running.size >= AT_ONCE || this.#stopping) return;
    const audienceId = `${run._id}:${attempt}`;
    const token = randomUUID();
    const begun = await beginAudience(store, {
      _id: audienceId,
      owner: { kind: 'run', runId: run._id, attempt },
      lease: { token, seq: 0, workerId, ttlMs: claimTtlMs },
    });
    if (!begun) return;
    if (this.#stopping) {
      await endAudience(store, audienceId, token, { state: 'dead' }); // the stop came meanwhile: it does not count
      return;
    }
    const controller = new AbortController();
    const done = this.#attempt(run, audienceId, token, controller)
      .catch((error: unknown) =>
        logger.warn({ error, audience: audienceId }, 'freezing attempt could not be ended'),
      )
      .finally(() => {
        this.#running.delete(audienceId);
        this.#options.onChange();
      });
    this.#running.set(audienceId, { runId: run._id, stop: (reason) => controller.abort(reason), done });
  }

  async #attempt(run: RunDoc, audienceId: string, token: string, controller: AbortController): Promise<void> {
    const { store, logger, sources, pageSize } = this.#options;
    if (!('source' in run.audience)) return;
    const { source, params } = run.audience;
    const progress = { rows: 0 };
    const stopRenewing = keepLease(this.#options, audienceId, token, controller, progress);
    const assertAlive = (): void => controller.signal.throwIfAborted();
    try {
      const read = async (): Promise<Frozen> => {
        const rows = await sources[source]?.(params, { signal: controller.signal });
        assertIterable(rows, source);
        return freezeRows(rows, { store, audienceId, pageSize, assertAlive, progress });
      };
      // A source that hangs and does not look at its signal must not hold up the worker.
      const frozen = await Promise.race([read(), rejectedWhenAborted(controller.signal)]);
      assertAlive();
      if (!(await endAudience(store, audienceId, token, { state: 'ready', ...frozen }))) return;
      logger.info(
        {
          campaign: run.name,
          recipients: frozen.total,
          duplicates: frozen.duplicates,
          rejected: frozen.rejected.count,
        },
        'audience frozen',
      );
      await this.#options.onFrozen(run, frozen);
      await adopt(store, run, { _id: audienceId, ...frozen });
    } catch (error) {
      const { reason: message } = describeError(error);
      logger.warn({ campaign: run.name, source, error: message }, 'freezing the audience failed');
      await endAudience(
        store,
        audienceId,
        token,
        this.#stopping ? { state: 'dead' } : { state: 'failed', error: message },
      );
    } finally {
      stopRenewing();
    }
  }
}

function assertIterable(
  rows: unknown,
  source: string,
): asserts rows is AsyncIterable<unknown> | Iterable<unknown> {
  const iterable =
    typeof rows === 'object' && rows !== null && (Symbol.asyncIterator in rows || Symbol.iterator in rows);
  if (!iterable)
    throw new TypeError(`the source \`${source}\` returned ${typeof rows} instead of an iterable`);
}

function rejectedWhenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
