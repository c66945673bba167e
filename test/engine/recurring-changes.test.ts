/** What people do to a rule that is not yet, or no longer, in force: nothing past fires, and nothing wrong is promised. */
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Resolution } from '../../src/core/orders.ts';
import { ValidationError } from '../../src/errors.ts';
import { EventBus } from '../../src/events.ts';
import { processRecurringCampaign } from '../../src/jobs/process-recurring-campaign.ts';
import type { Logger } from '../../src/logger.ts';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import { createJournal } from '../../src/store/journal.ts';
import { testDatabase } from '../support/mongo.ts';
import {
  campaignsOf,
  inHours,
  people,
  runsOf,
  startRig,
  stopRig,
  testStore,
  tidyUpAfterEach,
} from './fixtures.ts';
import { PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const HOUR = 3_600_000;
const HOURLY = { cron: '0 * * * *' };
const audience = people(2);
const none = (): void => undefined;
const logger: Logger = { debug: none, info: none, warn: none, error: none };
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Created so many hours ago. */
async function age(hours: number): Promise<void> {
  const before = new Date(Date.now() - hours * HOUR);
  await campaignsOf(db).updateMany({}, [
    {
      $set: {
        lastOccurrence: before,
        nextOccurrence: { $dateTrunc: { date: { $add: [before, HOUR] }, unit: 'hour' } },
        nextRunAt: { $dateTrunc: { date: { $add: [before, HOUR] }, unit: 'hour' } },
        'schedule.recurrence.anchor': before,
      },
    },
  ]);
}

describe('a draft with a rule', () => {
  it('does not run what would have occurred while it was a draft', async () => {
    const rig = await startRig(uri);
    const { id } = await rig.create({ audience, recurrence: HOURLY, draft: true });
    await age(5);
    const next = () => Math.floor(Date.now() / HOUR) * HOUR + HOUR;
    const before = next();
    const scheduled = await rig.scheduler.campaigns.schedule(id);
    expect(scheduled.status).toBe('scheduled');
    expect([before, next()]).toContain(scheduled.nextRunAt?.getTime());
    await pause(1_500);
    expect(await runsOf(db).countDocuments()).toBe(0);
    expect(await rig.scheduler.why(id)).toMatchObject({ code: 'next_occurrence' });
  });

  it('is not scheduled to a time beside its rule', async () => {
    const rig = await startRig(uri);
    const { id } = await rig.create({ audience, recurrence: HOURLY, draft: true });
    await expect(rig.scheduler.campaigns.schedule(id, inHours(3))).rejects.toThrow(/recurs/);
  });
});

it('a recurring campaign is not moved to another time: its rule says when it runs', async () => {
  const rig = await startRig(uri);
  const { id, nextRunAt } = await rig.create({ audience, recurrence: HOURLY });
  await expect(rig.scheduler.campaigns.reschedule(id, inHours(300))).rejects.toThrow(/recurs/);
  expect((await rig.scheduler.campaigns.find(id))?.nextRunAt).toEqual(nextRunAt);
});

it('maxRuns of a new rule counts from the change on', async () => {
  const rig = await startRig(uri);
  const { id } = await rig.create({ audience, recurrence: HOURLY });
  await campaignsOf(db).updateOne({}, { $set: { runsOpened: 5 } });
  await rig.scheduler.campaigns.update(id, { recurrence: { every: { seconds: 1 }, maxRuns: 2 } });
  await rig.until(id, 'completed');
  expect(await runsOf(db).countDocuments()).toBe(2);
});

it('what was missed when the rule changed is told as left out', async () => {
  const rig = await startRig(uri, { worker: false });
  const { id } = await rig.create({ audience, recurrence: { ...HOURLY, misfire: 'all' } });
  await age(5);
  await rig.scheduler.campaigns.update(id, { recurrence: { cron: '30 * * * *' } });
  await startRig(uri);
  const told = async () =>
    (await rig.scheduler.campaigns.journal(id)).filter(({ kind }) => kind === 'occurrence-skipped');
  await expect.poll(told, PATIENCE).toHaveLength(1);
  expect((await told())[0]?.detail).toMatchObject({ count: 5 });
});

describe('an update', () => {
  it('leaves alone what it names without a value', async () => {
    const rig = await startRig(uri);
    const { id } = await rig.create({ audience, recurrence: HOURLY, concurrency: 3, priority: 7 });
    const changed = await rig.scheduler.campaigns.update(id, {
      name: 'Other',
      concurrency: undefined,
      priority: undefined,
      content: undefined,
    } as never);
    expect(changed).toMatchObject({ name: 'Other', priority: 7, limits: { concurrency: 3 } });
  });

  it.each([null, 7, 'x', []])('that is no object is refused: %j', async (update) => {
    const rig = await startRig(uri);
    const { id } = await rig.create({ audience, recurrence: HOURLY });
    await expect(rig.scheduler.campaigns.update(id, update as never)).rejects.toThrow(ValidationError);
  });

  it('keeps a window and a rate that it does not name', async () => {
    const rig = await startRig(uri);
    const window = {
      from: '22:00',
      to: '06:00',
      timezone: 'recipient',
      fallbackTimezone: 'UTC',
      holidays: ['2026-12-25'],
      days: ['monday' as const],
    };
    const { id, limits } = await rig.create({
      audience,
      recurrence: HOURLY,
      window,
      rate: { perMinute: 5 },
      retry: { maxAttempts: 2 },
      onUnknown: 'give-up',
    });
    const changed = await rig.scheduler.campaigns.update(id, { name: 'x' });
    expect(changed.limits).toEqual(limits);
  });
});

describe('who gives an order', () => {
  it.each<[string, unknown]>([
    ['a reason that is no text', { reason: 5 }],
    ['a name that is no text', { by: { $ne: 1 } }],
    ['nothing', null],
    ['a bare name', 'ann'],
    ['a book', { by: 'ann', reason: 'x'.repeat(10_000) }],
  ])('%s: it is refused, and nothing is done', async (_what, by) => {
    const rig = await startRig(uri);
    const { id } = await rig.create({ audience, recurrence: HOURLY });
    const { campaigns } = rig.scheduler;
    await campaigns.pause(id);
    await expect(campaigns.resume(id, by as never)).rejects.toThrow(ValidationError);
    expect((await campaigns.find(id))?.status).toBe('paused');
  });
});

it('the journal knows who ran a campaign now that runs once', async () => {
  const rig = await startRig(uri);
  const { id } = await rig.create({ audience, sendAt: inHours(5) });
  await rig.scheduler.campaigns.runNow(id, { by: 'ann', reason: 'at last' });
  const entry = (await rig.scheduler.campaigns.journal(id)).find(({ kind }) => kind === 'reschedule');
  expect(entry?.detail).toMatchObject({ by: 'ann', reason: 'at last' });
  await rig.until(id, 'completed');
});

it('a rule whose last occurrence is left out: the end is told like any other', async () => {
  const rig = await startRig(uri);
  const completed = rig.signals('campaign:completed');
  const { id } = await rig.create({
    audience,
    recurrence: { ...HOURLY, misfire: 'skip', end: inHours(1.99) },
  });
  await rig.scheduler.campaigns.runNow(id);
  await expect.poll(async () => (await campaignsOf(db).findOne())?.status, PATIENCE).toBe('scheduled');
  await campaignsOf(db).updateOne({}, [
    {
      $set: {
        lastOccurrence: new Date(Date.now() - 3 * HOUR),
        nextOccurrence: new Date(Math.floor(Date.now() / HOUR) * HOUR - 2 * HOUR),
        nextRunAt: new Date(Math.floor(Date.now() / HOUR) * HOUR - 2 * HOUR),
        'schedule.recurrence.anchor': new Date(Date.now() - 5 * HOUR),
        'schedule.recurrence.end': new Date(Date.now() - 1.1 * HOUR),
      },
    },
  ]);
  await db.collection('agendaJobs').updateOne({}, { $set: { nextRunAt: new Date() } });
  await rig.until(id, 'completed');
  await completed.next();
  await pause(300);
  expect(completed.all).toMatchObject([{ report: { sent: 2 } }]);
});

describe('an occurrence that falls due while an order acts on a run that has ended', () => {
  /** An ended run with somebody unknown, an order for it, and nobody who works: the tick comes in that very moment. */
  const ordered = async (as: Resolution) => {
    const rig = await startRig(uri);
    rig.provider.plan(() => {
      throw new DeliveryError('unknown', 'silence');
    });
    const { id } = await rig.create({ audience, recurrence: HOURLY });
    await rig.scheduler.campaigns.runNow(id);
    const ended = { status: 'scheduled', openRuns: { $size: 0 } } as const;
    await expect.poll(() => runsOf(db).countDocuments({ status: 'finished' }), PATIENCE).toBe(1);
    await expect.poll(() => campaignsOf(db).countDocuments(ended), PATIENCE).toBe(1);
    await stopRig(rig);
    const api = await startRig(uri, { worker: false });
    await api.scheduler.campaigns.resolveUnknown(id, { as });
    await age(1);
    const store = await testStore(uri);
    onTestFinished(() => store.close());
    const serverNow = (): Date => new Date();
    const journal = createJournal(store, 'w', logger, serverNow);
    const options = { store, serverNow, journal, events: new EventBus(logger), logger, nudge: none };
    await processRecurringCampaign(options, id);
    const kinds = (await api.scheduler.campaigns.journal(id)).map(({ kind }) => kind);
    return { runs: await runsOf(db).countDocuments(), leftOut: kinds.includes('occurrence-skipped') };
  };

  it.each<Resolution>(['sent', 'failed'])('runs where the order sends nothing (%s)', async (as) => {
    expect(await ordered(as)).toEqual({ runs: 2, leftOut: false });
  });

  it('is left out where the order sends', async () => {
    expect(await ordered('resend')).toEqual({ runs: 1, leftOut: true });
  });
});

it('an order that sends nothing does not complete its run once more', async () => {
  const rig = await startRig(uri);
  const completed = rig.signals('run:completed');
  rig.provider.plan(({ recipient }) => {
    if (recipient.id === audience[0]?.id) throw new DeliveryError('unknown', 'silence');
    return undefined;
  });
  const { id } = await rig.create({ audience, recurrence: HOURLY });
  await rig.scheduler.campaigns.runNow(id);
  const { run } = await completed.next();
  rig.provider.plan(() => undefined);
  const gate = rig.provider.hold();
  await rig.scheduler.campaigns.runNow(id);
  await rig.provider.calls.count(2 + audience.length);
  await rig.scheduler.campaigns.resolveUnknown(id, { as: 'failed', occurrence: run.occurrence });
  const open = { 'openRuns.occurrence': run.occurrence };
  const resolved = { _id: run.id, 'report.failed': 1 };
  await expect.poll(() => runsOf(db).countDocuments(resolved), PATIENCE).toBe(1);
  await expect.poll(() => campaignsOf(db).countDocuments(open), PATIENCE).toBe(0);
  gate.open();
  expect(await completed.next()).toMatchObject({ report: { sent: audience.length } });
  expect(completed.all).toHaveLength(2);
});
