/**
 * Builds, starts and stops the parts in order; the only place that wires them. Invariant: a start that fails leaves nothing
 * running; a stop takes no more work first, lets sends end, records, gives pages back, and closes last.
 */
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import pLimit from 'p-limit';
import { type Alerts, createAlerts } from './alerts.ts';
import { Breakers } from './breakers.ts';
import {
  type CampaignHealth,
  type CampaignHealthList,
  campaignHealth,
  campaignsHealth,
  type ListHealthOptions,
} from './campaign-health.ts';
import type { CampaignScheduler, Versions } from './campaign-scheduler.ts';
import { Campaigns } from './campaigns.ts';
import { type ResolvedOptions, resolveOptions, type SchedulerOptions } from './config.ts';
import type { ServiceHealth } from './core/service-health.ts';
import { crashRecorder, onCrashes } from './crashes.ts';
import { adoptForeignCampaign, type CreationOptions } from './create-campaign.ts';
import { orAtDeadline } from './deadline.ts';
import { FLUSHES_AT_ONCE, type HoldEnvironment } from './delivery/hold-environment.ts';
import { RunFreezer } from './delivery/run-freezer.ts';
import { RunSharing } from './delivery/run-sharing.ts';
import { Slots } from './delivery/slots.ts';
import { CampaignSchedulerError } from './errors.ts';
import { EventBus, type EventListener, type EventName } from './events.ts';
import { processBulkCampaign } from './jobs/process-bulk-campaign.ts';
import { processRecurringCampaign, ringsByItself } from './jobs/process-recurring-campaign.ts';
import { listOccurrences, type OccurrenceList } from './occurrences.ts';
import { previewSchedule, type SchedulePreview, type SchedulePreviewInput } from './preview-schedule.ts';
import { agendaVersion } from './queue/agenda-version.ts';
import { alarmOf, BULK_ALARM, RECURRING_ALARM } from './queue/alarm.ts';
import { type Alarms, createAlarms } from './queue/alarms.ts';
import { freezingFailed, tellDeliveries, tellParked, tellQuarantined, wantsDeliveries } from './run-news.ts';
import { createServerClock, type ServerClock } from './server-clock.ts';
import { createServiceHealth } from './service-health.ts';
import { type Alerter, createAlerter } from './services/alerter.ts';
import type { BreakerCampaignsOptions } from './services/breaker-campaigns.ts';
import { createBreakers, workersHaving } from './services/breakers.ts';
import { createBreakersOff } from './services/breakers-off.ts';
import { createClaimWatch } from './services/claim-watch.ts';
import { createDuty, type Duty } from './services/duty.ts';
import { createHeartbeat, type Heartbeat } from './services/heartbeat.ts';
import { createRecovery, type Recovery } from './services/recovery.ts';
import type { RecoveryReport } from './services/recovery-pass.ts';
import { createRunHeartbeat } from './services/run-heartbeat.ts';
import { createSweeper } from './services/sweeper.ts';
import { createWatchdog } from './services/watchdog.ts';
import { onSignals } from './signals.ts';
import { createJournal } from './store/journal.ts';
import { defineModels, type Models } from './store/models.ts';
import { openStore, type Store } from './store/store.ts';
import { serverTime, serverVersion } from './store/workers.ts';
import { type CampaignOverview, overview, type Why, type WhyOptions, why } from './why.ts';
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
  readonly #alerter: Alerter;
  readonly #watchdog: Duty;
  readonly #options: ResolvedOptions;
  readonly #store: Store;
  readonly #serverClock: ServerClock;
  readonly #events: EventBus;
  readonly #alarms: Alarms;
  readonly #freezer: RunFreezer;
  readonly #sharing: RunSharing;
  readonly #heartbeat: Heartbeat;
  readonly #recovery: Recovery;
  readonly #breakers: Duty;
  readonly #duties: readonly Duty[];
  readonly #whyOptions: WhyOptions;
  readonly #serviceHealth: () => Promise<ServiceHealth>;
  /** Of a process that only serves the API: a worker's heartbeat measures the server's clock as well. */
  readonly #clockwork: Duty;
  #background: Promise<unknown> = Promise.resolve();
  #stopped: Promise<void> | undefined;
  #closed = false;
  #forgetSignals: () => void = () => undefined;
  #forgetCrashes: () => void = () => undefined;
  #mongodbVersion: string | null = null;
  readonly #recordCrash: ReturnType<typeof crashRecorder>;

  constructor(options: ResolvedOptions, store: Store) {
    this.#options = options;
    this.#store = store;
    const { clock, logger, random } = options;
    const { workerId } = this;
    const serverClock = createServerClock(clock);
    const serverNow = (): Date => serverClock.now();
    const events = new EventBus(logger);
    const journal = createJournal(store, workerId, logger, serverNow);
    // Only a worker looks for work: a process that serves the API must not begin to send because of an order.
    const nudge = (): void => (options.worker ? this.#sharing.nudge() : undefined);
    const shared = { store, serverNow, journal, events, logger };
    const alarms = createAlarms({
      db: store.db,
      collectionName: store.alarmsName,
      workerId,
      logger,
      clock,
      processEveryMs: options.processEveryMs,
      lockLifetimeMs: options.lockLifetimeMs,
      serverNow,
      handlers: {
        [BULK_ALARM]: (campaignId) => processBulkCampaign({ ...shared, nudge }, campaignId),
        [RECURRING_ALARM]: (campaignId) => processRecurringCampaign({ ...shared, nudge }, campaignId),
      },
    });
    const env: HoldEnvironment = {
      store,
      clock,
      serverNow,
      random,
      logger,
      workerId,
      claimTtlMs: options.claimTtlMs,
      claimMarginMs: options.claimMarginMs,
      sendTimeoutMs: options.sendTimeoutMs,
      inTurn: pLimit(FLUSHES_AT_ONCE),
      suspectPlace: new Slots(1),
      telling: new Set(),
      stopped: () => this.#closed,
      onFlushed: (recorded) => this.#heartbeat.noteFlush(recorded),
      wantsDeliveries: () => wantsDeliveries(events),
      onRecorded: (run, deliveries) => tellDeliveries(events, run, deliveries),
      onQuarantined: (run, deliveries) =>
        void tellQuarantined({ ...shared, alerter: this.#alerter }, run, deliveries),
    };
    const creation: CreationOptions = { store, options, workerId, serverNow };

    this.#serverClock = serverClock;
    this.#events = events;
    this.#alarms = alarms;
    this.#freezer = new RunFreezer({
      ...env,
      pageSize: options.pageSize,
      sources: options.audiences,
      onChange: nudge,
      onFrozen: (run, { total, duplicates, rejected }) =>
        journal.write({
          campaignId: run.campaignId,
          runId: run._id,
          kind: 'audience-frozen',
          detail: { recipients: total, duplicates, rejected: rejected.count, rejections: rejected.first },
        }),
      onFailed: (run, detail) => freezingFailed(shared, run, detail),
    });
    this.#sharing = new RunSharing({
      env,
      steps: {
        ...shared,
        workerId,
        onClosed: async (campaign) => {
          if (ringsByItself(campaign, serverNow())) return;
          await alarms.wake(alarmOf(campaign), campaign._id.toHexString(), serverNow());
        },
      },
      freezer: this.#freezer,
      messengers: options.messengers,
      pollMs: options.pollMs,
      pageSize: options.pageSize,
      maxPagesBytes: options.maxPagesBytes,
      breaker: options.breaker === false ? undefined : options.breaker,
      onParked: (run, page) => tellParked({ ...shared, alerter: this.#alerter }, run, page),
    });
    const byBreaker: BreakerCampaignsOptions = {
      ...shared,
      nudge,
      wake: async (campaign) => {
        await alarms.wake(alarmOf(campaign), campaign._id.toHexString(), serverNow());
      },
    };
    this.breakers = new Breakers({
      ...byBreaker,
      options,
      serverNow,
      onChange: () => void (options.worker && this.#breakers.runOnce()),
      assertRunning: () => this.#assertRunning(),
    });
    this.campaigns = new Campaigns({ ...creation, alarms, journal, events, logger, nudge });
    this.models = defineModels(store);
    this.alerts = createAlerts(store, () => this.#assertRunning());
    this.#alerter = createAlerter({
      ...shared,
      clock,
      messengers: options.messengers,
      ...options.alerts,
    });
    this.#heartbeat = createHeartbeat({
      store,
      clock,
      serverClock,
      logger,
      workerId,
      version: VERSION,
      heartbeatMs: options.heartbeatMs,
      silentAfterMs: options.workerOfflineAfterMs / 2,
      messengers: Object.entries(options.messengers).map(([name, messenger]) => ({
        name,
        idempotent: messenger.idempotent !== undefined && messenger.idempotent !== false,
        reconciles: messenger.reconcile !== undefined,
        breaker: options.breaker !== false,
        ...(messenger.rate === undefined ? {} : { rate: messenger.rate }),
      })),
      sources: Object.keys(options.audiences),
      sharing: this.#sharing,
      onSilent: (forMs) => events.emit('worker:suspended', { workerId, forMs }),
      onHeard: () => events.emit('worker:resumed', { workerId }),
    });
    const lookingAfter = {
      ...byBreaker,
      clock,
      alerter: this.#alerter,
      pollMs: options.pollMs,
      survey: () => this.#sharing.survey(),
      workersHaving: (messenger: string) => workersHaving(store, messenger, 3 * options.heartbeatMs),
    };
    this.#breakers =
      options.breaker === false
        ? createBreakersOff({ ...lookingAfter, messengers: Object.keys(options.messengers) })
        : createBreakers({
            ...lookingAfter,
            settings: options.breaker,
            serverNow,
            random,
            workerId,
            sendTimeoutMs: options.sendTimeoutMs,
            lines: this.#sharing.lines,
          });
    this.#recovery = createRecovery({
      ...shared,
      alarms,
      clock,
      workerId,
      heartbeatMs: options.heartbeatMs,
      recoverEveryMs: options.recoverEveryMs,
      adopt: (head) => adoptForeignCampaign(creation, head),
      nudge,
    });
    const { workerOfflineAfterMs } = options;
    this.#whyOptions = { store, alarms, serverNow, workerOfflineAfterMs };
    this.#recordCrash = crashRecorder({
      ...shared,
      workerId,
      heldRunIds: () => this.#sharing.heldRunIds,
      quit: () => {
        this.#sharing.suspend();
        return this.#heartbeat.stop();
      },
    });
    this.#serviceHealth = createServiceHealth({
      store,
      clock,
      serverNow,
      options,
      worker: options.worker ? { alarms, sharing: this.#sharing, heartbeat: this.#heartbeat } : undefined,
    });
    this.#clockwork = createDuty({
      name: 'server-clock',
      everyMs: options.heartbeatMs,
      clock,
      logger,
      run: () => serverClock.measure(() => serverTime(store)),
    });
    const claimWatch = { env, sharing: this.#sharing, journal, events };
    this.#watchdog = createWatchdog({
      ...shared,
      alarms,
      clock,
      alerter: this.#alerter,
      workerId,
      limits: options.watchdog,
      workerOfflineAfterMs,
      why: (campaignId) => why(this.#whyOptions, campaignId),
      nudge,
      takingOver: options.worker ? claimWatch : undefined,
    });
    this.#duties = [
      this.#heartbeat,
      this.#breakers,
      createRunHeartbeat({
        ...shared,
        clock,
        workerId,
        heartbeatMs: options.heartbeatMs,
        takeHeldRuns: () => this.#sharing.takeHeldRuns(),
      }),
      createClaimWatch(claimWatch),
      this.#recovery,
      createSweeper({ store, clock, logger, workerId }),
    ];
  }

  async start(): Promise<void> {
    const { logger, worker, handleSignals, crashHandlers } = this.#options;
    [this.#mongodbVersion] = await Promise.all([
      serverVersion(this.#store).catch(() => null),
      this.#serverClock.measure(() => serverTime(this.#store)),
    ]);
    await this.#alarms.ensureIndexes();
    if (!this.#store.replicaSet) {
      logger.info(
        {},
        'MongoDB is a standalone server: everything works, but nothing survives the loss of its disk; a replica set does',
      );
    }
    if (worker) await this.#startWorker();
    else this.#clockwork.start();
    if (worker && crashHandlers) {
      this.#forgetCrashes = onCrashes({ record: this.#recordCrash, goOn: () => this.#goOn() });
    }
    this.#watchdog.start();
    if (handleSignals) {
      this.#forgetSignals = onSignals({
        stop: () => this.stop(),
        force: () => this.#sharing.force(),
        logger,
      });
    }
  }

  /** The end of the process was at hand, and did not come. */
  #goOn(): void {
    if (this.#stopped !== undefined) return;
    this.#heartbeat.start();
    void this.#heartbeat.runOnce();
    this.#sharing.resume();
  }

  async #startWorker(): Promise<void> {
    const { logger } = this.#options;
    await this.#heartbeat.announce('running');
    await this.#alarms.start();
    this.#sharing.start();
    for (const duty of this.#duties) duty.start();
    this.#background = this.#recovery.recover({ atBoot: true }).catch((error: unknown) => {
      if (this.#stopped === undefined)
        logger.warn({ error }, 'recovery at start failed; it is tried again every now and then');
    });
    this.#events.emit('worker:started', { workerId: this.workerId });
  }

  on<Name extends EventName>(name: Name, listener: EventListener<Name>): () => void {
    return this.#events.on(name, listener);
  }
  once<Name extends EventName>(name: Name, listener: EventListener<Name>): () => void {
    return this.#events.once(name, listener);
  }
  off<Name extends EventName>(name: Name, listener: EventListener<Name>): void {
    this.#events.off(name, listener);
  }

  async recover(): Promise<RecoveryReport> {
    this.#assertRunning();
    return this.#recovery.recover();
  }

  async why(campaignId: string): Promise<Why> {
    this.#assertRunning();
    return why(this.#whyOptions, campaignId);
  }
  async overview(campaignId: string): Promise<CampaignOverview> {
    this.#assertRunning();
    return overview(this.#whyOptions, campaignId);
  }
  async occurrences(
    campaignId: string,
    options: { readonly limit?: number | undefined } = {},
  ): Promise<OccurrenceList> {
    this.#assertRunning();
    return listOccurrences(this.#store, campaignId, options, this.#serverClock.now());
  }
  health(campaignId: string): Promise<CampaignHealth>;
  health(options?: ListHealthOptions): Promise<CampaignHealthList>;
  async health(asked: string | ListHealthOptions = {}): Promise<CampaignHealth | CampaignHealthList> {
    this.#assertRunning();
    const options = { ...this.#whyOptions, limits: this.#options.health };
    return typeof asked === 'string' ? campaignHealth(options, asked) : campaignsHealth(options, asked);
  }
  async serviceHealth(): Promise<ServiceHealth> {
    this.#assertRunning();
    return this.#serviceHealth();
  }
  async versions(): Promise<Versions> {
    this.#assertRunning();
    const { node } = process.versions;
    return { name: NAME, version: VERSION, node, agenda: agendaVersion(), mongodb: this.#mongodbVersion };
  }
  async workers({ limit }: { readonly limit?: number | undefined } = {}): Promise<WorkerView[]> {
    this.#assertRunning();
    return listWorkers(this.#whyOptions, limit);
  }
  previewSchedule(input: SchedulePreviewInput): SchedulePreview {
    return previewSchedule(input, this.#serverClock.now());
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
      const toldToStop = this.#heartbeat.announce('stopping').catch(() => undefined);
      const alarmsStopped = this.#alarms.stop({ timeoutMs });
      await Promise.all([this.#sharing.stop(timeoutMs), this.#freezer.stop(timeoutMs)]);
      await alarmsStopped;
      const duties = [...this.#duties, this.#watchdog];
      await inTime(Promise.all([...duties.map((duty) => duty.stop()), this.#background]));
      const lastWords = toldToStop
        .then(() => this.#heartbeat.announce('stopped'))
        .catch((error: unknown) => {
          logger.warn({ error }, 'the last sign of life could not be written');
        });
      await inTime(lastWords);
    } else await inTime(Promise.all([this.#clockwork.stop(), this.#watchdog.stop()]));

    await this.#alerter.stop(); // before the messengers, which sinks may send with
    for (const [name, messenger] of Object.entries(messengers)) {
      try {
        await messenger.close?.();
      } catch (error) {
        logger.warn({ error, messenger: name }, 'a messenger could not be closed');
      }
    }
    this.#closed = true;
    await this.#store.close();
    this.#events.emit('worker:stopped', { workerId: this.workerId });
    logger.info({}, 'stopped');
  }
}

const LAST_MS = 1000;
