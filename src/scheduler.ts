/**
 * A running scheduler: starts and stops the parts in order, and asks them what it is asked. Invariant: a start that fails
 * leaves nothing running; a stop takes no more work first, lets sends end, records, gives pages back, and closes last.
 */
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import type { Alerts } from './alerts.ts';
import type { Breakers } from './breakers.ts';
import {
  type CampaignHealth,
  type CampaignHealthList,
  campaignHealth,
  campaignsHealth,
  type ListHealthOptions,
} from './campaign-health.ts';
import type { CampaignScheduler, Versions } from './campaign-scheduler.ts';
import type { Campaigns } from './campaigns.ts';
import { type ResolvedOptions, resolveOptions, type SchedulerOptions } from './config.ts';
import type { ServiceHealth } from './core/service-health.ts';
import { onCrashes } from './crashes.ts';
import { orAtDeadline } from './deadline.ts';
import { CampaignSchedulerError } from './errors.ts';
import type { EventListener, EventName } from './events.ts';
import { listOccurrences, type OccurrenceList } from './occurrences.ts';
import { previewSchedule, type SchedulePreview, type SchedulePreviewInput } from './preview-schedule.ts';
import { agendaVersion } from './queue/agenda-version.ts';
import { makeParts, type SchedulerParts } from './scheduler-parts.ts';
import type { RecoveryReport } from './services/recovery-pass.ts';
import { onSignals } from './signals.ts';
import type { Models } from './store/models.ts';
import { openStore, type Store } from './store/store.ts';
import { serverTime, serverVersion } from './store/workers.ts';
import { type CampaignOverview, overview, type Why, why } from './why.ts';
import { listWorkers, type WorkerView } from './worker-list.ts';

const { name: NAME, version: VERSION } = createRequire(import.meta.url)('../package.json') as {
  name: string;
  version: string;
};

/**
 * Connects, makes indexes, starts the worker and its recovery in the background, and resolves.
 * @throws ValidationError `invalid_options`; CampaignSchedulerError `mongo_unreachable`, `mongo_auth`, `index_conflict`.
 */
export async function startCampaignScheduler(options: SchedulerOptions): Promise<CampaignScheduler> {
  const resolved = resolveOptions(options);
  const store = await openStore(resolved);
  try {
    const scheduler = new Scheduler(resolved, store);
    await scheduler.start();
    return scheduler;
  } catch (error) {
    await store.close().catch(() => undefined);
    throw error;
  }
}

class Scheduler implements CampaignScheduler {
  readonly workerId = randomUUID();
  readonly campaigns: Campaigns;
  readonly breakers: Breakers;
  readonly alerts: Alerts;
  readonly models: Models;
  readonly #options: ResolvedOptions;
  readonly #store: Store;
  readonly #parts: SchedulerParts;
  #background: Promise<unknown> = Promise.resolve();
  #stopped: Promise<void> | undefined;
  #closed = false;
  #forgetSignals: () => void = () => undefined;
  #forgetCrashes: () => void = () => undefined;
  #mongodbVersion: string | null = null;

  constructor(options: ResolvedOptions, store: Store) {
    this.#options = options;
    this.#store = store;
    this.#parts = makeParts({
      options,
      store,
      workerId: this.workerId,
      version: VERSION,
      assertRunning: () => this.#assertRunning(),
      isClosed: () => this.#closed,
    });
    const { campaigns, breakers, alerts, models } = this.#parts;
    this.campaigns = campaigns;
    this.breakers = breakers;
    this.alerts = alerts;
    this.models = models;
  }

  async start(): Promise<void> {
    const { logger, worker, handleSignals, crashHandlers } = this.#options;
    [this.#mongodbVersion] = await Promise.all([
      serverVersion(this.#store).catch(() => null),
      this.#parts.serverClock.measure(() => serverTime(this.#store)),
    ]);
    await this.#parts.alarms.ensureIndexes();
    if (!this.#store.replicaSet) {
      logger.info(
        {},
        'MongoDB is a standalone server: everything works, but nothing survives the loss of its disk; a replica set does',
      );
    }
    if (worker) await this.#startWorker();
    else this.#parts.clockwork.start();
    if (worker && crashHandlers) {
      this.#forgetCrashes = onCrashes({ record: this.#parts.recordCrash, goOn: () => this.#goOn() });
    }
    this.#parts.watchdog.start();
    if (handleSignals) {
      this.#forgetSignals = onSignals({
        stop: () => this.stop(),
        force: () => this.#parts.sharing.force(),
        logger,
      });
    }
  }

  /** The end of the process was at hand, and did not come. */
  #goOn(): void {
    if (this.#stopped !== undefined) return;
    const { heartbeat, sharing } = this.#parts;
    heartbeat.start();
    void heartbeat.runOnce();
    sharing.resume();
  }

  async #startWorker(): Promise<void> {
    const { logger } = this.#options;
    const { heartbeat, alarms, sharing, duties, recovery, events } = this.#parts;
    await heartbeat.announce('running');
    await alarms.start();
    sharing.start();
    for (const duty of duties) duty.start();
    this.#background = recovery.recover({ atBoot: true }).catch((error: unknown) => {
      if (this.#stopped === undefined)
        logger.warn({ error }, 'recovery at start failed; it is tried again every now and then');
    });
    events.emit('worker:started', { workerId: this.workerId });
  }

  on<Name extends EventName>(name: Name, listener: EventListener<Name>): () => void {
    return this.#parts.events.on(name, listener);
  }
  once<Name extends EventName>(name: Name, listener: EventListener<Name>): () => void {
    return this.#parts.events.once(name, listener);
  }
  off<Name extends EventName>(name: Name, listener: EventListener<Name>): void {
    this.#parts.events.off(name, listener);
  }

  async recover(): Promise<RecoveryReport> {
    this.#assertRunning();
    return this.#parts.recovery.recover();
  }

  async why(campaignId: string): Promise<Why> {
    this.#assertRunning();
    return why(this.#parts.whyOptions, campaignId);
  }
  async overview(campaignId: string): Promise<CampaignOverview> {
    this.#assertRunning();
    return overview(this.#parts.whyOptions, campaignId);
  }
  async occurrences(
    campaignId: string,
    options: { readonly limit?: number | undefined } = {},
  ): Promise<OccurrenceList> {
    this.#assertRunning();
    return listOccurrences(this.#store, campaignId, options, this.#parts.serverClock.now());
  }
  health(campaignId: string): Promise<CampaignHealth>;
  health(options?: ListHealthOptions): Promise<CampaignHealthList>;
  async health(asked: string | ListHealthOptions = {}): Promise<CampaignHealth | CampaignHealthList> {
    this.#assertRunning();
    const options = { ...this.#parts.whyOptions, limits: this.#options.health };
    return typeof asked === 'string' ? campaignHealth(options, asked) : campaignsHealth(options, asked);
  }
  async serviceHealth(): Promise<ServiceHealth> {
    this.#assertRunning();
    return this.#parts.serviceHealth();
  }
  async versions(): Promise<Versions> {
    this.#assertRunning();
    const { node } = process.versions;
    return { name: NAME, version: VERSION, node, agenda: agendaVersion(), mongodb: this.#mongodbVersion };
  }
  async workers({ limit }: { readonly limit?: number | undefined } = {}): Promise<WorkerView[]> {
    this.#assertRunning();
    return listWorkers(this.#parts.whyOptions, limit);
  }
  previewSchedule(input: SchedulePreviewInput): SchedulePreview {
    return previewSchedule(input, this.#parts.serverClock.now());
  }

  #assertRunning(): void {
    if (this.#stopped !== undefined) {
      throw new CampaignSchedulerError('stopped', 'This scheduler has been stopped.');
    }
  }

  stop(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    this.#stopped ??= this.#stop(options.timeoutMs ?? this.#options.stopTimeoutMs);
    return this.#stopped;
  }

  async #stop(timeoutMs: number): Promise<void> {
    const { logger, worker, messengers, clock } = this.#options;
    const { heartbeat, alarms, sharing, freezer, watchdog, clockwork, alerter, events } = this.#parts;
    this.#forgetSignals();
    this.#forgetCrashes();
    const from = clock.monotonic();
    /** A database that is away must not hold up the stop: all parts together have the time given, and a last second. */
    const inTime = async (work: Promise<unknown>): Promise<void> => {
      const leftMs = Math.max(LAST_MS, timeoutMs - (clock.monotonic() - from));
      await orAtDeadline(work, leftMs, clock, () => undefined);
    };
    if (worker) {
      // Should it be killed before it has stopped, nobody is to take what it was doing for the cause.
      const toldToStop = heartbeat.announce('stopping').catch(() => undefined);
      const alarmsStopped = alarms.stop({ timeoutMs });
      await Promise.all([sharing.stop(timeoutMs), freezer.stop(timeoutMs)]);
      await alarmsStopped;
      const duties = [...this.#parts.duties, watchdog];
      await inTime(Promise.all([...duties.map((duty) => duty.stop()), this.#background]));
      const lastWords = toldToStop
        .then(() => heartbeat.announce('stopped'))
        .catch((error: unknown) => {
          logger.warn({ error }, 'the last sign of life could not be written');
        });
      await inTime(lastWords);
    } else await inTime(Promise.all([clockwork.stop(), watchdog.stop()]));

    await alerter.stop(); // before the messengers, which sinks may send with
    for (const [name, messenger] of Object.entries(messengers)) {
      try {
        await messenger.close?.();
      } catch (error) {
        logger.warn({ error, messenger: name }, 'a messenger could not be closed');
      }
    }
    this.#closed = true;
    await this.#store.close();
    events.emit('worker:stopped', { workerId: this.workerId });
    logger.info({}, 'stopped');
  }
}

const LAST_MS = 1000;
