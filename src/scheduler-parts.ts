/**
 * The parts of a scheduler, made and tied to each other; the only place that wires them. Nothing runs yet and nothing is
 * asked of MongoDB. A part may call another that is made after it, but only once all of them are there.
 */
import pLimit from 'p-limit';
import { createAlerts } from './alerts.ts';
import { Breakers } from './breakers.ts';
import { Campaigns } from './campaigns.ts';
import type { ResolvedOptions } from './config.ts';
import { crashRecorder } from './crashes.ts';
import { adoptForeignCampaign, type CreationOptions } from './create-campaign.ts';
import { FLUSHES_AT_ONCE, type HoldEnvironment } from './delivery/hold-environment.ts';
import { RunFreezer } from './delivery/run-freezer.ts';
import { RunSharing } from './delivery/run-sharing.ts';
import { Slots } from './delivery/slots.ts';
import { EventBus } from './events.ts';
import { processBulkCampaign } from './jobs/process-bulk-campaign.ts';
import { processRecurringCampaign, ringsByItself } from './jobs/process-recurring-campaign.ts';
import { alarmOf, BULK_ALARM, RECURRING_ALARM } from './queue/alarm.ts';
import { createAlarms } from './queue/alarms.ts';
import { freezingFailed, tellDeliveries, tellParked, tellQuarantined, wantsDeliveries } from './run-news.ts';
import { createServerClock } from './server-clock.ts';
import { createServiceHealth } from './service-health.ts';
import { createAlerter } from './services/alerter.ts';
import type { BreakerCampaignsOptions } from './services/breaker-campaigns.ts';
import { createBreakers, workersHaving } from './services/breakers.ts';
import { createBreakersOff } from './services/breakers-off.ts';
import { createClaimWatch } from './services/claim-watch.ts';
import { createDuty, type Duty } from './services/duty.ts';
import { createHeartbeat } from './services/heartbeat.ts';
import { createRecovery } from './services/recovery.ts';
import { createRunHeartbeat } from './services/run-heartbeat.ts';
import { createSweeper } from './services/sweeper.ts';
import { createWatchdog } from './services/watchdog.ts';
import { createJournal } from './store/journal.ts';
import { defineModels } from './store/models.ts';
import type { Store } from './store/store.ts';
import { serverTime } from './store/workers.ts';
import { type WhyOptions, why } from './why.ts';

export interface PartsOptions {
  readonly options: ResolvedOptions;
  readonly store: Store;
  readonly workerId: string;
  /** Of this package. */
  readonly version: string;
  /** @throws CampaignSchedulerError `stopped`. */
  readonly assertRunning: () => void;
  /** Everything has ended: nothing is written any more. */
  readonly isClosed: () => boolean;
}

export type SchedulerParts = ReturnType<typeof makeParts>;

export function makeParts({ options, store, workerId, version, assertRunning, isClosed }: PartsOptions) {
  const { clock, logger, random } = options;
  const serverClock = createServerClock(clock);
  const serverNow = (): Date => serverClock.now();
  const events = new EventBus(logger);
  const journal = createJournal(store, workerId, logger, serverNow);
  // Only a worker looks for work: a process that serves the API must not begin to send because of an order.
  const nudge = (): void => (options.worker ? sharing.nudge() : undefined);
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
    stopped: isClosed,
    onFlushed: (recorded) => heartbeat.noteFlush(recorded),
    wantsDeliveries: () => wantsDeliveries(events),
    onRecorded: (run, deliveries) => tellDeliveries(events, run, deliveries),
    onQuarantined: (run, deliveries) => void tellQuarantined({ ...shared, alerter }, run, deliveries),
  };
  const creation: CreationOptions = { store, options, workerId, serverNow };

  const freezer = new RunFreezer({
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
  const sharing = new RunSharing({
    env,
    steps: {
      ...shared,
      workerId,
      onClosed: async (campaign) => {
        if (ringsByItself(campaign, serverNow())) return;
        await alarms.wake(alarmOf(campaign), campaign._id.toHexString(), serverNow());
      },
    },
    freezer,
    messengers: options.messengers,
    pollMs: options.pollMs,
    pageSize: options.pageSize,
    maxPagesBytes: options.maxPagesBytes,
    breaker: options.breaker === false ? undefined : options.breaker,
    onParked: (run, page) => tellParked({ ...shared, alerter }, run, page),
  });
  const byBreaker: BreakerCampaignsOptions = {
    ...shared,
    nudge,
    wake: async (campaign) => {
      await alarms.wake(alarmOf(campaign), campaign._id.toHexString(), serverNow());
    },
  };
  const breakers = new Breakers({
    ...byBreaker,
    options,
    serverNow,
    onChange: () => void (options.worker && breakersDuty.runOnce()),
    assertRunning,
  });
  const campaigns = new Campaigns({ ...creation, alarms, journal, events, logger, nudge });
  const models = defineModels(store);
  const alerts = createAlerts(store, assertRunning);
  const alerter = createAlerter({
    ...shared,
    clock,
    messengers: options.messengers,
    ...options.alerts,
  });
  const heartbeat = createHeartbeat({
    store,
    clock,
    serverClock,
    logger,
    workerId,
    version,
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
    sharing,
    onSilent: (forMs) => events.emit('worker:suspended', { workerId, forMs }),
    onHeard: () => events.emit('worker:resumed', { workerId }),
  });
  const lookingAfter = {
    ...byBreaker,
    clock,
    alerter,
    pollMs: options.pollMs,
    survey: () => sharing.survey(),
    workersHaving: (messenger: string) => workersHaving(store, messenger, 3 * options.heartbeatMs),
  };
  const breakersDuty =
    options.breaker === false
      ? createBreakersOff({ ...lookingAfter, messengers: Object.keys(options.messengers) })
      : createBreakers({
          ...lookingAfter,
          settings: options.breaker,
          serverNow,
          random,
          workerId,
          sendTimeoutMs: options.sendTimeoutMs,
          lines: sharing.lines,
        });
  const recovery = createRecovery({
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
  const whyOptions: WhyOptions = { store, alarms, serverNow, workerOfflineAfterMs };
  const recordCrash = crashRecorder({
    ...shared,
    workerId,
    heldRunIds: () => sharing.heldRunIds,
    quit: () => {
      sharing.suspend();
      return heartbeat.stop();
    },
  });
  const serviceHealth = createServiceHealth({
    store,
    clock,
    serverNow,
    options,
    worker: options.worker ? { alarms, sharing, heartbeat } : undefined,
  });
  const clockwork = createDuty({
    name: 'server-clock',
    everyMs: options.heartbeatMs,
    clock,
    logger,
    run: () => serverClock.measure(() => serverTime(store)),
  });
  const claimWatch = { env, sharing, journal, events };
  const watchdog = createWatchdog({
    ...shared,
    alarms,
    clock,
    alerter,
    workerId,
    limits: options.watchdog,
    workerOfflineAfterMs,
    why: (campaignId) => why(whyOptions, campaignId),
    nudge,
    takingOver: options.worker ? claimWatch : undefined,
  });
  const duties: readonly Duty[] = [
    heartbeat,
    breakersDuty,
    createRunHeartbeat({
      ...shared,
      clock,
      workerId,
      heartbeatMs: options.heartbeatMs,
      takeHeldRuns: () => sharing.takeHeldRuns(),
    }),
    createClaimWatch(claimWatch),
    recovery,
    createSweeper({ store, clock, logger, workerId }),
  ];
  return {
    serverClock,
    events,
    alarms,
    freezer,
    sharing,
    campaigns,
    breakers,
    models,
    alerts,
    alerter,
    heartbeat,
    recovery,
    whyOptions,
    recordCrash,
    serviceHealth,
    /** Of a process that only serves the API: a worker's heartbeat measures the server's clock as well. */
    clockwork,
    watchdog,
    /** Of a worker. */
    duties,
  };
}
