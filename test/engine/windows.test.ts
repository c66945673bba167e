/**
 * Send windows over the whole engine, on a clock that the test moves: nothing leaves outside the hours, everything goes on
 * by itself at the opening instant, and what waits for its hours is in nobody's way.
 */
import { expect, it } from 'vitest';
import type { SchedulerOptions } from '../../src/config.ts';
import { windowAt } from '../../src/core/send-window.ts';
import type { SendWindowInput } from '../../src/core/send-window-check.ts';
import { checkSendWindow } from '../../src/core/send-window-check.ts';
import { testDatabase } from '../support/mongo.ts';
import { othersGoOn, pagesOf, people, type Rig, runsOf, startRigAt, tidyUpAfterEach } from './fixtures.ts';
import { PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const OFFICE: SendWindowInput = { from: '09:00', to: '17:00', timezone: 'UTC' };

const startAt = (instant: string, options: Partial<SchedulerOptions> = {}) =>
  startRigAt(uri, instant, options);
const sentOf = (rig: Rig): string[] => rig.provider.left.filter((id) => id.startsWith('p'));

it('closed at the start: nothing leaves; it opens: everything goes; others go on meanwhile', async () => {
  const { rig, goTo } = await startAt('2030-01-07T08:00:00Z');
  const { id } = await rig.create({ window: OFFICE });
  await expect.poll(() => runsOf(db).countDocuments({ status: 'sending' }), PATIENCE).toBe(1);
  await othersGoOn(rig);
  goTo('2030-01-07T08:50:00Z');
  await othersGoOn(rig);
  expect(sentOf(rig)).toEqual([]);
  expect(await pagesOf(db).countDocuments({ status: 'claimed' })).toBe(0);
  goTo('2030-01-07T09:00:00Z');
  await rig.until(id, 'completed');
  expect(sentOf(rig)).toHaveLength(30);
});

it('closes half-way: what is in flight ends, no intent is left, the next day it goes on', async () => {
  const { rig, goTo } = await startAt('2030-01-07T16:50:00Z');
  const gate = rig.provider.hold();
  const { id } = await rig.create({ window: OFFICE, concurrency: 2, audience: people(25) });
  await rig.provider.calls.count(2);
  goTo('2030-01-07T17:00:00Z');
  await expect.poll(() => pagesOf(db).countDocuments({ states: />.*>.*>/ }), PATIENCE).toBe(0);
  gate.open();
  await expect.poll(() => pagesOf(db).countDocuments({ status: 'claimed' }), PATIENCE).toBe(0);
  expect(await pagesOf(db).countDocuments({ states: />/ })).toBe(0);
  await othersGoOn(rig);
  expect(sentOf(rig)).toHaveLength(2);
  goTo('2030-01-08T08:50:00Z');
  await othersGoOn(rig);
  expect(sentOf(rig)).toHaveLength(2);
  goTo('2030-01-08T09:00:00Z');
  await rig.until(id, 'completed');
  expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 25, unknown: 0 });
  rig.provider.expectNobodyTwice();
});

it('a retry that falls due outside the window waits for it', async () => {
  const { rig, goTo } = await startAt('2030-01-07T16:50:00Z', { random: () => 0.9 });
  rig.provider.plan(({ attempt, recipient }) => {
    if (attempt === 1 && recipient.id.startsWith('p')) throw new Error('busy');
  });
  const retry = { firstDelayMs: 3_600_000 };
  const { id } = await rig.create({ window: OFFICE, audience: people(5), retry });
  await expect.poll(() => pagesOf(db).countDocuments({ status: 'waiting' }), PATIENCE).toBe(1);
  expect((await pagesOf(db).findOne())?.dueAt).toEqual(new Date('2030-01-08T09:00:00Z'));
  goTo('2030-01-08T08:50:00Z');
  await othersGoOn(rig);
  expect(sentOf(rig)).toEqual([]);
  goTo('2030-01-08T09:00:00Z');
  await rig.until(id, 'completed');
  expect(sentOf(rig)).toHaveLength(5);
});

const NIGHTS: [string, SendWindowInput, string, string][] = [
  // 02:00 to 03:00 is skipped: the window opens when it has been.
  [
    'skipped',
    { from: '02:30', to: '03:30', timezone: 'Europe/Paris' },
    '2030-03-31T00:50:00Z',
    '2030-03-31T01:00:00Z',
  ],
  // 02:00 to 03:00 comes twice: it opens the first time.
  [
    'repeated',
    { from: '02:15', to: '02:45', timezone: 'Europe/Paris' },
    '2030-10-27T00:05:00Z',
    '2030-10-27T00:15:00Z',
  ],
  // Half an hour, in the south.
  [
    'skipped',
    { from: '02:10', to: '03:30', timezone: 'Australia/Lord_Howe' },
    '2030-10-05T15:20:00Z',
    '2030-10-05T15:30:00Z',
  ],
];
it.each(NIGHTS)('the night of an hour that is %s, %o', async (_what, window, before, at) => {
  const { rig, goTo } = await startAt(before);
  const { id } = await rig.create({ window });
  await othersGoOn(rig);
  expect(sentOf(rig)).toEqual([]);
  goTo(at);
  await rig.until(id, 'completed');
  expect(sentOf(rig)).toHaveLength(30);
});

it('a window that closes in the repeated hour stays open until it is over', async () => {
  const { rig } = await startAt('2030-10-27T01:10:00Z'); // 02:10 for the second time
  const { id } = await rig.create({ window: { from: '02:15', to: '02:45', timezone: 'Europe/Paris' } });
  await rig.until(id, 'completed');
});

it('pause, resume and cancel while it is closed', async () => {
  const { rig, goTo } = await startAt('2030-01-07T20:00:00Z');
  const { campaigns } = rig.scheduler;
  const cancelled = await rig.create({ window: OFFICE, audience: people(12, 'c') });
  const paused = await rig.create({ window: OFFICE, audience: people(12) });
  await expect.poll(() => runsOf(db).countDocuments({ status: 'sending' }), PATIENCE).toBe(2);
  await campaigns.pause(paused.id);
  await campaigns.cancel(cancelled.id);
  await expect.poll(async () => (await campaigns.report(cancelled.id))?.skipped, PATIENCE).toBe(12);
  goTo('2030-01-08T10:00:00Z');
  await othersGoOn(rig);
  expect(sentOf(rig)).toEqual([]);
  goTo('2030-01-08T18:00:00Z');
  await campaigns.resume(paused.id);
  await othersGoOn(rig);
  expect(sentOf(rig)).toEqual([]);
  goTo('2030-01-09T09:00:00Z');
  await rig.until(paused.id, 'completed');
  expect(sentOf(rig)).toHaveLength(12);
  expect(rig.provider.left.some((id) => id.startsWith('c'))).toBe(false);
});

it('recipients in 40 zones: each only within its own hours', async () => {
  const zones = Intl.supportedValuesOf('timeZone')
    .filter((_, index) => index % 10 === 0)
    .slice(0, 40);
  const window = { from: '09:00', to: '10:00', timezone: 'recipient', fallbackTimezone: 'Asia/Kathmandu' };
  const checked = checkSendWindow(window).window;
  if (checked === undefined) throw new Error('a good window');
  const audience = people(130).map((row, index) => ({ ...row, timezone: zones[index % 41] ?? null }));
  const { rig, clock } = await startAt('2030-03-04T00:00:00Z');
  const early: string[] = [];
  const zoneOfPerson = new Map(audience.map(({ id, timezone }) => [id, timezone ?? 'Asia/Kathmandu']));
  rig.provider.plan(({ recipient }) => {
    const zone = zoneOfPerson.get(recipient.id);
    if (zone !== undefined && !windowAt(checked, zone, clock.now()).open) early.push(recipient.id);
  });
  const { id } = await rig.create({ window, audience });
  await expect.poll(() => runsOf(db).countDocuments({ status: 'sending' }), PATIENCE).toBe(1);
  const had = new Set<string>();
  for (let half = 0; half < 48; half += 1) {
    const open = (zone: string): boolean => windowAt(checked, zone, clock.now()).open;
    for (const [person, zone] of zoneOfPerson) if (open(zone)) had.add(person);
    await expect.poll(() => sentOf(rig).length, PATIENCE).toBe(had.size);
    clock.advance(1_800_000);
  }
  expect(early).toEqual([]);
  await rig.until(id, 'completed');
  expect(had.size).toBe(130);
  rig.provider.expectNobodyTwice();
});
