/**
 * Recurring campaigns in one process: each occurrence is a run of its own, what was missed is treated as the rule says and
 * told in the journal, and a person's orders meet the right run. Days are passed by moving the clock.
 */
import { describe, expect, it, onTestFinished } from 'vitest';
import type { CampaignInput } from '../../src/campaign-input.ts';
import { systemClock } from '../../src/clock.ts';
import type { SchedulerOptions } from '../../src/config.ts';
import { occurrenceKey } from '../../src/core/recurrence.ts';
import type { RecurrenceInput } from '../../src/core/recurrence-rule.ts';
import { lineLogger } from '../../src/logger.ts';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import { createJournal } from '../../src/store/journal.ts';
import { testDatabase } from '../support/mongo.ts';
import {
  campaignsOf,
  pagesOf,
  people,
  type Rig,
  runsOf,
  startRig,
  startTimedRig,
  stopRig,
  testStore,
  tidyUpAfterEach,
} from './fixtures.ts';
import { PATIENCE } from './provider.ts';
import { LONG_HELD, type TestClock, testClock } from './test-clock.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const HOUR = 3_600_000;
const HOURLY: RecurrenceInput = { cron: '0 * * * *' };

/** Begins just after a full hour, so that none is passed unnoticed; or goes on with this clock. */
async function timed(clock?: TestClock, more: Partial<SchedulerOptions> = {}) {
  const by = clock ?? testClock();
  ringBy(by);
  const started = await startTimedRig(uri, more, by);
  if (clock === undefined) toHour(by, 1);
  return started;
}

/** MongoDB's own clock cannot be moved: alarms that are due by the moved one are made due by the server's. */
function ringBy(clock: TestClock): void {
  let over = false;
  const alarms = db.collection('agendaJobs');
  const ring = async (): Promise<void> => {
    while (!over) {
      const now = new Date();
      const due = { nextRunAt: { $gt: now, $lte: clock.now() } };
      await alarms.updateMany(due, { $set: { nextRunAt: now }, $inc: { wakeRev: 1 } });
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const ringing = ring();
  onTestFinished(async () => {
    over = true;
    await ringing;
  });
}
const fullHour = (clock: TestClock, hours: number, hourMs = HOUR): Date =>
  new Date(Math.floor(clock.now().getTime() / hourMs) * hourMs + hours * hourMs);

/** Moves the clock to just after a full hour, or a full `hourMs`. */
function toHour(clock: TestClock, hours: number, hourMs = HOUR): Date {
  const at = fullHour(clock, hours, hourMs);
  clock.goTo(new Date(at.getTime() + 2_000));
  return at;
}
const create = (rig: Rig, recurrence: RecurrenceInput, more: Partial<CampaignInput> = {}) =>
  rig.create({ audience: people(3), recurrence, ...more });
const untilIdle = (rig: Rig, id: string, status = 'scheduled') =>
  expect
    .poll(async () => {
      const campaign = await campaignsOf(db).findOne({
        name: (await rig.scheduler.campaigns.find(id))?.name ?? '',
      });
      return [campaign?.status, campaign?.openRuns.length];
    }, PATIENCE)
    .toEqual([status, 0]);
const occurrences = async (): Promise<string[]> =>
  (await runsOf(db).find().sort({ nominalAt: 1, openedAt: 1 }).toArray()).map((run) => run.occurrence);
const begun = async (rig: Rig, id: string) =>
  (await rig.scheduler.campaigns.journal(id)).filter(({ kind }) => kind === 'run-opened');
const leftOut = async (rig: Rig, id: string) =>
  (await rig.scheduler.campaigns.journal(id)).flatMap(({ kind, detail }) =>
    kind === 'occurrence-skipped' ? [detail] : [],
  );

it('runs at each occurrence, with its own books, and never between', async () => {
  const { rig, clock } = await timed();
  const completed = rig.signals('run:completed');
  const { id, nextRunAt, status } = await create(rig, HOURLY);
  expect([nextRunAt, status]).toEqual([fullHour(clock, 1), 'scheduled']);
  const times: Date[] = [];
  for (let hour = 0; hour < 3; hour += 1) {
    times.push(toHour(clock, 1));
    expect((await completed.next()).report).toMatchObject({ total: 3, sent: 3 });
    await untilIdle(rig, id);
  }
  expect(await occurrences()).toEqual(times.map(occurrenceKey));
  expect(rig.provider.calls.all).toHaveLength(9);
  expect(new Set(rig.provider.calls.all.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(9);
  const last = await rig.scheduler.campaigns.find(id);
  expect(last?.nextRunAt).toEqual(fullHour(clock, 1));
  expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 3 });
  expect(await rig.scheduler.campaigns.report(id, occurrenceKey(times[0] as Date))).toMatchObject({
    sent: 3,
  });
});

it('rings once for an occurrence: the alarm is set to the next one, and the end of the run leaves it alone', async () => {
  const { rig, clock } = await timed();
  const completed = rig.signals('run:completed');
  const { id } = await create(rig, HOURLY);
  toHour(clock, 1);
  await completed.next();
  await untilIdle(rig, id);
  const next = { nextRunAt: fullHour(clock, 1), lockedAt: null };
  const alarm = () => db.collection('agendaJobs').findOne();
  await expect.poll(alarm, PATIENCE).toMatchObject(next);
  const before = await alarm();
  await rig.scheduler.recover(); // it finds nothing to do either
  expect(await alarm()).toEqual(before);
});

it('ends with its rule: after maxRuns it is completed, and its alarm is gone', async () => {
  const { rig, clock } = await timed();
  const completed = rig.signals('campaign:completed');
  const { id } = await create(rig, { ...HOURLY, maxRuns: 2 });
  toHour(clock, 1);
  await rig.provider.calls.count(3);
  await untilIdle(rig, id);
  toHour(clock, 1);
  await completed.next();
  await untilIdle(rig, id, 'completed');
  await expect.poll(() => db.collection('agendaJobs').countDocuments(), PATIENCE).toBe(0);
  expect(await occurrences()).toHaveLength(2);
});

describe('down for five periods', () => {
  it.each<[string, RecurrenceInput, number[], object[]]>([
    ['once', { misfire: 'once' }, [5], [{ reason: 'coalesced', count: 4 }]],
    ['skip', { misfire: 'skip' }, [], [{ reason: 'missed', count: 5 }]],
    ['all', { misfire: 'all' }, [1, 2, 3, 4, 5], []],
    [
      'all, but not what is later than two and a half hours',
      { misfire: 'all', misfireWindowMs: 2.5 * HOUR },
      [3, 4, 5],
      [{ reason: 'too-late', count: 2 }],
    ],
  ])('%s', async (_what, rule, hours, skips) => {
    const first = await startRig(uri);
    const start = new Date(Math.floor(Date.now() / 1000) * 1000 - 4 * HOUR - 20 * 60_000);
    const base = start.getTime() - HOUR;
    const { id } = await create(first, { every: { hours: 1 }, start, ...rule });
    await stopRig(first);
    // As it would stand after a worker that died before the first occurrence.
    const next = { nextOccurrence: start, nextRunAt: start, lastOccurrence: new Date(base) };
    await campaignsOf(db).updateOne({}, { $set: next });
    await db.collection('agendaJobs').updateOne({}, { $set: { nextRunAt: start } });
    const rig = await startRig(uri);
    const expected = hours.map((hour) => occurrenceKey(new Date(base + hour * HOUR)));
    await expect.poll(async () => (await leftOut(rig, id)).length, PATIENCE).toBe(skips.length);
    await expect.poll(occurrences, PATIENCE).toEqual(expected);
    await untilIdle(rig, id);
    expect(await occurrences()).toEqual(expected);
    expect(await leftOut(rig, id)).toMatchObject(skips);
    expect((await rig.scheduler.campaigns.find(id))?.nextRunAt).toEqual(new Date(base + 6 * HOUR));
    const [run] = await runsOf(db).find().sort({ nominalAt: -1 }).limit(1).toArray();
    if (hours.length > 0) expect(run?.lateMs).toBeGreaterThan(60_000);
    expect(run?.missed).toBe(rule.misfire === 'once' ? 4 : undefined);
  });
});

describe('an occurrence that is due while the run before is open', () => {
  /** Five minutes apart: sends that are held for an hour of the moved clock would be given up. */
  const TWICE: RecurrenceInput = { cron: '0,5 * * * *' };
  const busy = async (rule = TWICE) => {
    const { rig, clock } = await timed(undefined, LONG_HELD);
    toHour(clock, 1);
    clock.advance(10 * 60_000);
    const skipped = rig.signals('occurrence:skipped');
    const gate = rig.provider.hold();
    const { id } = await create(rig, rule);
    const first = toHour(clock, 1);
    await rig.provider.calls.count(3);
    clock.advance(5 * 60_000);
    return { rig, clock, id, gate, skipped, second: new Date(first.getTime() + 5 * 60_000) };
  };

  it('is left out, and said so', async () => {
    const { rig, id, gate, skipped, second } = await busy();
    expect(await skipped.next()).toMatchObject({ reason: 'overlap', first: second, count: 1 });
    gate.open();
    await untilIdle(rig, id);
    expect(await occurrences()).toHaveLength(1);
    expect(await leftOut(rig, id)).toMatchObject([{ reason: 'overlap', first: second, last: second }]);
  });

  it('or waits for its turn, where the rule says so', async () => {
    const { rig, id, gate } = await busy({ ...TWICE, overlap: 'queue' });
    await expect.poll(async () => (await occurrences()).length, PATIENCE).toBe(2);
    expect(rig.provider.calls.all).toHaveLength(3); // the second run waits
    gate.open();
    await untilIdle(rig, id);
    expect(rig.provider.calls.all).toHaveLength(6);
    expect(await leftOut(rig, id)).toEqual([]);
  });

  it('waits only where no other waits yet: a further one is left out, and said so', async () => {
    const { rig, clock, id, gate, skipped, second } = await busy({
      cron: '0,5,8 * * * *',
      overlap: 'queue',
    });
    await expect.poll(async () => (await occurrences()).length, PATIENCE).toBe(2);
    clock.advance(3 * 60_000);
    const third = new Date(second.getTime() + 3 * 60_000);
    expect(await skipped.next()).toMatchObject({ reason: 'overlap', first: third, last: third, count: 1 });
    gate.open();
    await untilIdle(rig, id);
    expect(await occurrences()).toHaveLength(2);
    expect(await leftOut(rig, id)).toMatchObject([{ reason: 'overlap', first: third, last: third }]);
  });
});

it('a source is read anew for each occurrence', async () => {
  let reads = 0;
  const rows = () => {
    reads += 1;
    return people(reads);
  };
  const { rig, clock } = await timed(undefined, { audiences: { rows } });
  const { id } = await create(rig, HOURLY, { audience: { source: 'rows' } });
  for (const total of [1, 2]) {
    toHour(clock, 1);
    await expect.poll(async () => (await rig.scheduler.campaigns.report(id))?.total, PATIENCE).toBe(total);
    await untilIdle(rig, id);
  }
});

describe('a run whose audience cannot be read', () => {
  it.each([true, false])('is given up; pauseOnFailure: %s', async (pauseOnFailure) => {
    let broken = true;
    const rows = () => {
      if (broken) throw new Error('no such table');
      return people(2);
    };
    const { rig, clock } = await timed(undefined, { audiences: { rows } });
    const failed = rig.signals('run:failed');
    const { id } = await create(rig, HOURLY, { audience: { source: 'rows' }, pauseOnFailure });
    toHour(clock, 1);
    let seen = 0;
    const step = async () => {
      const failed = await db.collection('audiences').countDocuments({ state: 'failed' });
      if (failed > seen) clock.advance(61_000); // past every back-off of freezing
      seen = failed;
      return (await runsOf(db).findOne())?.status;
    };
    await expect.poll(step, { ...PATIENCE, interval: 300 }).toBe('failed');
    await untilIdle(rig, id, pauseOnFailure ? 'paused' : 'scheduled');
    broken = false;
    expect((await failed.next()).reason).toMatchObject({ code: 'freezing_failed', detail: 'no such table' });
    const told = (await rig.scheduler.campaigns.journal(id)).filter(({ kind }) => kind === 'run-failed');
    expect(told).toMatchObject([{ detail: { reason: 'no such table' } }]);
    expect((await rig.scheduler.occurrences(id)).past).toMatchObject([
      { fate: 'failed', failure: 'no such table' },
    ]);
    if (pauseOnFailure) {
      const { statusReason } = (await rig.scheduler.campaigns.find(id)) ?? {};
      expect(statusReason).toMatchObject({ code: 'run_failed', by: 'scheduler' });
      await rig.scheduler.campaigns.resume(id);
    }
    toHour(clock, 1);
    await rig.provider.calls.count(2);
    await untilIdle(rig, id);
  });
});

it('pauses itself when a run reached nobody', async () => {
  const { rig, clock } = await timed();
  rig.provider.plan(() => {
    throw new DeliveryError('permanent', 'closed');
  });
  const { id } = await create(rig, HOURLY, { pauseOnFailure: true });
  const paused = rig.signals('campaign:paused');
  toHour(clock, 1);
  expect((await paused.next()).reason).toMatchObject({
    code: 'run_failed',
    detail: 'a run reached nobody: 3 failed',
  });
  await untilIdle(rig, id, 'paused');
});

describe('a person', () => {
  it('pauses over three occurrences: resumed, they are treated as missed', async () => {
    const { rig, clock } = await timed();
    const { id } = await create(rig, HOURLY);
    await rig.scheduler.campaigns.pause(id, { by: 'ann' });
    for (let hour = 0; hour < 3; hour += 1) toHour(clock, 1);
    const last = fullHour(clock, 0);
    clock.advance(20 * 60_000);
    expect(await occurrences()).toEqual([]);
    await rig.scheduler.campaigns.resume(id);
    await expect.poll(occurrences, PATIENCE).toEqual([occurrenceKey(last)]);
    await untilIdle(rig, id);
    expect(await leftOut(rig, id)).toMatchObject([{ reason: 'coalesced', count: 2 }]);
  });

  it('runs it now: once beside its rule, which goes on as before', async () => {
    const { rig, clock } = await timed();
    const { id } = await create(rig, HOURLY);
    const next = fullHour(clock, 1);
    const campaign = await rig.scheduler.campaigns.runNow(id, { by: 'ann' });
    expect(campaign.status).toBe('processing');
    await rig.provider.calls.count(3);
    await untilIdle(rig, id);
    expect((await rig.scheduler.campaigns.find(id))?.nextRunAt).toEqual(next);
    toHour(clock, 1);
    await rig.provider.calls.count(6);
    await untilIdle(rig, id);
    expect((await occurrences()).filter((key) => key.startsWith('manual:'))).toHaveLength(1);
  });

  it('runs past occurrences that have no run, in order, each once', async () => {
    const { rig, clock } = await timed();
    const { id } = await create(rig, { ...HOURLY, misfire: 'skip' });
    for (let hour = 0; hour < 2; hour += 1) {
      toHour(clock, 1);
      await expect.poll(async () => (await occurrences()).length, PATIENCE).toBe(hour + 1);
      await untilIdle(rig, id);
    }
    await rig.scheduler.campaigns.pause(id);
    clock.advance(3 * HOUR + 10 * 60_000);
    await rig.scheduler.campaigns.resume(id);
    await expect.poll(async () => (await leftOut(rig, id)).length, PATIENCE).toBe(1);
    const from = fullHour(clock, -5);
    const to = fullHour(clock, 0);
    await rig.scheduler.campaigns.backfill(id, from, to);
    await rig.provider.calls.count(12); // two of the four had their runs before the pause
    await untilIdle(rig, id);
    expect(await occurrences()).toHaveLength(4);
    await expect(rig.scheduler.campaigns.backfill(id, from, to)).rejects.toThrow(/without a run/);
  });

  it.each<[string, (now: Date) => [unknown, unknown], RegExp]>([
    ['of millions', (now) => [new Date(now.getTime() - 500 * HOUR), now], /at most 100 occurrences/],
    ['of the future', (now) => [now, new Date(now.getTime() + HOUR)], /`to` to be past/],
    ['from behind', (now) => [now, new Date(now.getTime() - HOUR)], /`to` to be after `from`/],
    ['of nonsense', () => ['yesterday', 7], /`from`.*\n?.*/],
  ])('asks for a backfill %s and is refused', async (_what, range, words) => {
    const { rig, clock } = await timed();
    const start = new Date(clock.now().getTime() - 1000 * HOUR);
    const { id } = await create(rig, { ...HOURLY, start });
    const [from, to] = range(clock.now());
    await expect(rig.scheduler.campaigns.backfill(id, from as Date, to as Date)).rejects.toThrow(words);
  });

  it('changes the rule: the past never fires, and the new times count at once', async () => {
    const { rig, clock } = await timed();
    const { id } = await create(rig, { daily: { at: '00:00' } });
    const { campaigns } = rig.scheduler;
    const changed = await campaigns.update(id, { recurrence: HOURLY, name: 'Changed', concurrency: 3 });
    expect(changed).toMatchObject({
      name: 'Changed',
      limits: { concurrency: 3 },
      nextRunAt: fullHour(clock, 1),
    });
    expect(await occurrences()).toEqual([]);
    const at = toHour(clock, 1);
    await rig.provider.calls.count(3);
    await untilIdle(rig, id);
    expect(await occurrences()).toEqual([occurrenceKey(at)]);
    expect(rig.provider.calls.all[0]?.campaign.name).toBe('Changed');
    await expect(
      campaigns.update(id, { messenger: 'x', recurrence: { cron: 'x' } } as never),
    ).rejects.toThrow(/Cannot change `messenger`/);
    await expect(campaigns.update(id, { recurrence: { cron: '* * * *' } })).rejects.toThrow(
      /recurrence\.cron/,
    );
    expect(await campaigns.update(id, { rate: { perSecond: 5 } })).toMatchObject({
      limits: { rate: { perSecond: 5 } },
    });
    expect((await campaigns.update(id, { rate: null })).limits.rate).toBeUndefined();
  });

  it('cancels it: the open run ends, those that wait never begin, and nothing comes after', async () => {
    const { rig, clock } = await timed();
    const gate = rig.provider.hold();
    const { id } = await create(rig, { ...HOURLY, overlap: 'queue' }, { concurrency: 1 });
    toHour(clock, 1);
    await rig.provider.calls.count(1);
    toHour(clock, 1);
    await expect.poll(async () => (await occurrences()).length, PATIENCE).toBe(2);
    await rig.scheduler.campaigns.cancel(id);
    const skipped = () => pagesOf(db).countDocuments({ 'counts.skipped': { $gt: 0 } });
    await expect.poll(skipped, PATIENCE).toBe(1);
    const begun = rig.provider.calls.all.length;
    gate.open();
    await untilIdle(rig, id, 'cancelled');
    expect(await campaignsOf(db).findOne()).toMatchObject({ nextRunAt: null, nextOccurrence: null });
    await expect(rig.scheduler.campaigns.runNow(id)).rejects.toThrow(/^Cannot run now the campaign/);
    toHour(clock, 1);
    expect(await rig.scheduler.recover()).toMatchObject({ recoveredCount: 0 });
    expect((await runsOf(db).find().toArray()).map(({ status }) => status)).toEqual([
      'cancelled',
      'cancelled',
    ]);
    expect(rig.provider.calls.all).toHaveLength(begun);
  });

  it('retries the failed ones of one occurrence', async () => {
    const { rig, clock } = await timed();
    let broken = true;
    rig.provider.plan(({ recipient }) => {
      if (broken && recipient.id === 'p1') throw new DeliveryError('permanent', 'closed');
    });
    const { id } = await create(rig, HOURLY);
    const first = toHour(clock, 1);
    await rig.provider.calls.count(3);
    await untilIdle(rig, id);
    toHour(clock, 1);
    await rig.provider.calls.count(6);
    await untilIdle(rig, id);
    broken = false;
    const occurrence = occurrenceKey(first);
    await rig.scheduler.campaigns.retryFailed(id, { occurrence });
    await rig.provider.calls.count(7);
    await untilIdle(rig, id);
    expect(await rig.scheduler.campaigns.report(id, occurrence)).toMatchObject({ sent: 3, failed: 0 });
    expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 2, failed: 1 });
    expect(rig.provider.calls.all.at(-1)?.run.occurrence).toBe(occurrence);
  });
});

describe('recovery', () => {
  it('sets the alarm again that somebody deleted, and says so', async () => {
    const { rig, clock } = await timed();
    const { id } = await create(rig, HOURLY);
    await rig.scheduler.recover(); // the pass of the start is over: it would be joined
    await db.collection('agendaJobs').deleteMany({});
    const report = await rig.scheduler.recover();
    expect(report.recovered).toMatchObject([{ id, status: 'next-occurrence' }]);
    expect((await rig.scheduler.recover()).recoveredCount).toBe(0);
    toHour(clock, 1);
    await rig.provider.calls.count(3);
    await untilIdle(rig, id);
  });

  it('finds a run that was opened by a worker that died before it existed', async () => {
    const { rig, clock } = await timed();
    const { id } = await create(rig, HOURLY);
    await stopRig(rig);
    const at = fullHour(clock, 1);
    const occurrence = occurrenceKey(at);
    await campaignsOf(db).updateOne(
      {},
      {
        $set: { status: 'processing', lastOccurrence: at, nextOccurrence: fullHour(clock, 2), runsOpened: 1 },
        $push: { openRuns: { runId: `${id}:${occurrence}`, occurrence, nominalAt: at } },
      },
    );
    const second = await timed(clock);
    await second.rig.provider.calls.count(3);
    await untilIdle(second.rig, id);
    expect(await occurrences()).toEqual([occurrence]);
    await expect
      .poll(() => begun(second.rig, id), PATIENCE)
      .toMatchObject([{ runId: `${id}:${occurrence}`, detail: { occurrence } }]);
  });

  it('two workers that find such a run tell of it once', async () => {
    const rigs = [await startRig(uri), await startRig(uri)] as const;
    const started = rigs.map((rig) => rig.signals('campaign:started'));
    const { id } = await create(rigs[0], { daily: { at: '00:00' } });
    const run = { runId: `${id}:lost`, occurrence: 'lost' };
    await campaignsOf(db).updateOne({}, { $set: { status: 'processing' }, $push: { openRuns: run } });
    await untilIdle(rigs[0], id);
    expect(await occurrences()).toEqual(['lost']);
    // Another may have sent it before whoever opened it has told of it.
    await expect.poll(() => begun(rigs[0], id), PATIENCE).toHaveLength(1);
    await expect
      .poll(() => started.flatMap(({ all }) => all), PATIENCE)
      .toMatchObject([{ run: { id: run.runId } }]);
  });

  it('a worker that died after it told the journal of a run leaves the run, but no second entry', async () => {
    const rig = await startRig(uri);
    const started = rig.signals('campaign:started');
    const { id } = await create(rig, { daily: { at: '00:00' } });
    const run = { runId: `${id}:lost`, occurrence: 'lost' };
    const store = await testStore(uri);
    onTestFinished(() => store.close());
    const dead = createJournal(store, 'dead', lineLogger(), () => new Date());
    await dead.writeOnce(`${run.runId}:opened`, { campaignId: id, runId: run.runId, kind: 'run-opened' });
    await campaignsOf(db).updateOne({}, { $set: { status: 'processing' }, $push: { openRuns: run } });
    await untilIdle(rig, id);
    expect(await begun(rig, id)).toMatchObject([{ workerId: 'dead' }]);
    await expect.poll(() => started.all, PATIENCE).toHaveLength(1);
  });

  it('adopts a rule that another program wrote', async () => {
    const { rig, clock } = await timed();
    await db.collection('campaigns').insertOne({
      name: 'Foreign',
      status: 'scheduled',
      messenger: 'post',
      content: { text: 'hello' },
      audience: people(2),
      recurrence: { cron: '0 * * * *' },
    });
    expect((await rig.scheduler.recover()).recovered).toMatchObject([{ status: 'next-occurrence' }]);
    toHour(clock, 1);
    await rig.provider.calls.count(2);
  });
});

describe('the wall clock of a worker', () => {
  /** A wall clock that can be set; durations are measured as ever. */
  const settable = () => {
    let aheadMs = 0;
    const clock = { ...systemClock, now: () => new Date(systemClock.now().getTime() + aheadMs) };
    const set = (ms: number): void => {
      aheadMs = ms;
    };
    return { clock, set };
  };

  it.each([
    ['is set forward by an hour while it works', [0, HOUR]],
    ['is set back by an hour', [0, -HOUR]],
    ['is wrong from the start, and then right', [-5 * HOUR, 0]],
  ])('%s: no occurrence twice, none lost, none early', async (_what, [first = 0, then = 0]) => {
    const { clock, set } = settable();
    set(first);
    const rig = await startRig(uri, { clock, heartbeatMs: 300 });
    const { id } = await create(
      rig,
      { every: { seconds: 1 }, misfire: 'all', overlap: 'queue', maxRuns: 8 },
      { audience: people(1) },
    );
    await rig.provider.calls.count(3);
    set(then);
    await rig.until(id, 'completed');
    const runs = await runsOf(db).find().sort({ nominalAt: 1 }).toArray();
    const seconds = runs.map(({ nominalAt }) => (nominalAt?.getTime() ?? 0) / 1000);
    expect(seconds).toEqual(Array.from({ length: 8 }, (_, index) => (seconds[0] ?? 0) + index));
    expect(Math.abs((seconds[0] ?? 0) * 1000 - Date.now())).toBeLessThan(PATIENCE.timeout); // the server's time, not this clock's
    for (const { openedAt, nominalAt = openedAt } of runs)
      expect(openedAt.getTime()).toBeGreaterThanOrEqual(nominalAt.getTime());
    expect(rig.provider.calls.all).toHaveLength(8);
    expect(await leftOut(rig, id)).toEqual([]);
  });
});

it.each<[string, unknown, RegExp]>([
  ['an invalid cron', { cron: 'every day' }, /recurrence\.cron/],
  ['a cron of four fields', { cron: '* * * *' }, /recurrence\.cron/],
  ['30 February', { cron: '0 0 30 2 *' }, /recurrence\.cron/],
  ['an unknown zone', { cron: '0 9 * * *', timezone: 'Mars/Olympus' }, /recurrence\.timezone/],
  ['every 0', { every: { minutes: 0 } }, /recurrence\.every\.minutes/],
  [
    'an end before the start',
    { ...HOURLY, start: '2030-01-02T00:00:00Z', end: '2030-01-01T00:00:00Z' },
    /recurrence\.end/,
  ],
  ['an end that is past', { ...HOURLY, start: '2020-01-01T00:00:00Z', end: '2020-02-01T00:00:00Z' }, /past/],
  ['two patterns', { cron: '0 9 * * *', daily: { at: '09:00' } }, /recurrence/],
])('%s is refused at create', async (_what, recurrence, words) => {
  const { rig } = await timed();
  await expect(create(rig, recurrence as RecurrenceInput)).rejects.toThrow(words);
  expect(await campaignsOf(db).countDocuments()).toBe(0);
});
