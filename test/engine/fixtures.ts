/**
 * Schedulers for tests: short times, a log that can be read, and an end. After each test every scheduler is stopped; then
 * no page may be claimed, no alarm locked, and the books of every run must stand up to a recount. Then all is deleted.
 */
import type { Db } from 'mongodb';
import { afterEach, expect } from 'vitest';
import type { CampaignInput } from '../../src/campaign-input.ts';
import type { CampaignScheduler } from '../../src/campaign-scheduler.ts';
import type { Campaign } from '../../src/campaign-view.ts';
import { systemClock } from '../../src/clock.ts';
import type { SchedulerOptions } from '../../src/config.ts';
import { auditRun } from '../../src/delivery/books.ts';
import type { EventMap, EventName } from '../../src/events.ts';
import type { LogLevel } from '../../src/logger.ts';
import { startCampaignScheduler } from '../../src/scheduler.ts';
import type { CampaignDoc, LedgerPageDoc, RunDoc } from '../../src/store/documents.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import { Signals } from '../queue/signals.ts';
import { newProvider, PATIENCE, type Provider } from './provider.ts';
import { NO_BREAKER, QUICK_TAKEOVER, SHORT } from './short.ts';
import { LONG_HELD, RARE_HEARTBEAT, type TestClock, testClock } from './test-clock.ts';

export interface LogEntry {
  readonly level: LogLevel;
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

export interface Rig {
  readonly scheduler: CampaignScheduler;
  readonly provider: Provider;
  readonly log: LogEntry[];
  /** Creates a campaign for this provider. */
  create(input?: Partial<CampaignInput>): Promise<Campaign>;
  /** Every payload of this event from now on. */
  signals<Name extends EventName>(name: Name): Signals<EventMap[Name]>;
  /** Waits until the campaign is in this status. */
  until(id: string, status: Campaign['status']): Promise<Campaign>;
}

export const COLLECTIONS = [
  'campaigns',
  'campaign_runs',
  'audiences',
  'audience_pages',
  'ledger_pages',
  'workers',
  'leases',
  'rates',
  'breakers',
  'journal',
  'alerts',
  'agendaJobs',
] as const;

export { NO_BREAKER, QUICK_TAKEOVER, SHORT };

const running = new Set<CampaignScheduler>();

/** Starts a scheduler that is stopped after the test. */
export async function startRig(
  uri: SchedulerOptions['mongo'],
  overrides: Partial<SchedulerOptions> & { readonly provider?: Provider } = {},
): Promise<Rig> {
  const { provider = newProvider(), ...options } = overrides;
  const log: LogEntry[] = [];
  const at = (level: LogLevel) => (fields: object, message: string) => {
    log.push({ level, fields: fields as Record<string, unknown>, message });
  };
  const scheduler = await startCampaignScheduler({
    mongo: uri,
    messengers: { post: provider.messenger },
    ...SHORT,
    logger: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') },
    ...options,
  });
  running.add(scheduler);
  return {
    scheduler,
    provider,
    log,
    create: (input = {}) => scheduler.campaigns.create({ ...campaignOf(people(30)), ...input }),
    signals: (name) => {
      const signals = new Signals<EventMap[typeof name]>(name);
      scheduler.on(name, (payload) => signals.emit(payload));
      return signals;
    },
    until: async (id, status) => {
      let found: Campaign | null = null;
      const read = async () => {
        found = await scheduler.campaigns.find(id);
        return found?.status;
      };
      await expect.poll(read, PATIENCE).toBe(status);
      return found as unknown as Campaign;
    },
  };
}

/** A rig whose clock is moved by the test. */
export async function startTimedRig(
  uri: SchedulerOptions['mongo'],
  overrides: Parameters<typeof startRig>[1] = {},
  clock = testClock(),
): Promise<{ readonly rig: Rig; readonly clock: TestClock }> {
  return { rig: await startRig(uri, { clock, ...RARE_HEARTBEAT, ...overrides }), clock };
}

/** A rig whose clock stands at this instant: whatever the day is, the test begins there. Its campaigns are due at once. */
export async function startRigAt(
  uri: SchedulerOptions['mongo'],
  instant: string,
  overrides: Parameters<typeof startRig>[1] = {},
) {
  const { rig: started, clock } = await startTimedRig(uri, { ...LONG_HELD, ...overrides });
  // Agenda rings by the machine's clock, which nobody moves: to the worker the campaign is late, to Agenda it is due.
  const rig: Rig = { ...started, create: (input) => started.create({ sendAt: inHours(-1), ...input }) };
  clock.goTo(instant);
  return { rig, clock, goTo: clock.goTo };
}

/** Another campaign came and went: the worker has looked at everything more than once. */
export async function othersGoOn(rig: Rig): Promise<void> {
  const { id } = await rig.create({ name: 'other', audience: people(20, `o${Math.random()}-`) });
  await rig.until(id, 'completed');
}

/** Stops it now. */
export async function stopRig(rig: Rig, timeoutMs = 20_000): Promise<void> {
  running.delete(rig.scheduler);
  await rig.scheduler.stop({ timeoutMs });
}

export function campaignOf(audience: CampaignInput['audience'], more: Partial<CampaignInput> = {}) {
  return { name: 'News', messenger: 'post', content: { text: 'hello' }, audience, ...more };
}

/** Recipients `p0`, `p1`, … or with another prefix. */
export function people(count: number, prefix = 'p'): { id: string; to: string }[] {
  return Array.from({ length: count }, (_, index) => ({
    id: `${prefix}${index}`,
    to: `${prefix}${index}@example.org`,
  }));
}

export const inHours = (hours: number): Date => new Date(systemClock.now().getTime() + hours * 3_600_000);

/** Stops everything that `startRig` started. */
export async function stopAll(): Promise<void> {
  const stopping = [...running];
  running.clear();
  await Promise.all(stopping.map((scheduler) => scheduler.stop({ timeoutMs: 20_000 })));
}

/** Nothing is held any more and every run's books are true. */
export async function expectOrder(db: Db): Promise<void> {
  expect(await pagesOf(db).countDocuments({ status: 'claimed' })).toBe(0);
  // The end of an alarm's run is not yet a majority's.
  const alarms = db.collection('agendaJobs', { readConcern: { level: 'local' } });
  expect(await alarms.countDocuments({ lockedAt: { $ne: null } })).toBe(0);
  const store = { ...namesOf(db) } as unknown as Store;
  for (const run of await runsOf(db)
    .find({ audienceId: { $exists: true } })
    .toArray()) {
    expect((await auditRun(store, run)).problems).toEqual([]);
  }
}

/** Stops, checks and empties after each test. */
export function tidyUpAfterEach(db: Db): void {
  afterEach(async () => {
    await stopAll();
    try {
      await expectOrder(db);
    } finally {
      await Promise.all(COLLECTIONS.map((name) => db.collection(name).deleteMany({})));
    }
  });
}

/** A store of the test's own, to write what a crash would have left. */
export async function testStore(uri: string): Promise<Store> {
  return openStore({ mongo: uri, collectionPrefix: '', journalDays: 90 });
}

export const campaignsOf = (db: Db) => db.collection<CampaignDoc>('campaigns');
export const runsOf = (db: Db) => db.collection<RunDoc>('campaign_runs');
export const pagesOf = (db: Db) => db.collection<LedgerPageDoc>('ledger_pages');

function namesOf(db: Db): Partial<Store> {
  return {
    db,
    runs: runsOf(db),
    ledgerPages: db.collection<LedgerPageDoc>('ledger_pages', { promoteBuffers: true }),
    audiencePages: db.collection('audience_pages'),
  };
}
