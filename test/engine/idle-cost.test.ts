/** What a worker that cannot send asks of MongoDB: nothing turns in circles while hours are closed or tokens are far away. */
import { expect, it } from 'vitest';
import { type AnsweredCommand, type WatchedConnection, watchedConnection } from '../support/commands.ts';
import { testDatabase } from '../support/mongo.ts';
import { pagesOf, people, runsOf, startRigAt, tidyUpAfterEach } from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const POLLS = 20;
const CLOSED = '2030-01-07T20:00:00Z';
const window = { from: '09:00', to: '17:00', timezone: 'UTC' };
const inOwnHours = { ...window, timezone: 'recipient', fallbackTimezone: 'UTC' };

/** A worker that looks for work all the time, and whose other duties are rare. */
async function start(instant = CLOSED) {
  const watched = await watchedConnection(uri);
  const provider = newProvider();
  const messengers = { post: { ...provider.messenger, rate: { perSecond: 50 } } };
  const { rig } = await startRigAt(watched.connection, instant, { provider, messengers });
  return { rig, watched };
}

const isPoll = ({ name, collection, command }: AnsweredCommand): boolean =>
  name === 'find' && collection === 'campaigns' && command.filter['openRuns.0'] !== undefined;

/** The commands of so many polls from now on. */
async function commandsOf(watched: WatchedConnection, polls: number): Promise<AnsweredCommand[]> {
  const { all } = watched.answered;
  const from = all.length;
  const news = () => all.slice(from);
  await expect.poll(() => news().filter(isPoll).length, PATIENCE).toBeGreaterThanOrEqual(polls);
  return news();
}

/**
 * What so many polls cost, once the worker has come to rest. A poll is a question for open campaigns, one for the rests of
 * providers where something is to be sent, and the looks of Agenda, one for each kind of alarm, at the same pace.
 */
async function expectRest(watched: WatchedConnection, rests: number): Promise<void> {
  await commandsOf(watched, 3);
  const commands = await commandsOf(watched, POLLS);
  const polls = commands.filter(isPoll).length;
  const count = (name: string, collection: string): number =>
    commands.filter((one) => one.name === name && one.collection === collection).length;
  expect(count('findAndModify', 'ledger_pages')).toBe(0); // claims
  expect(count('update', 'ledger_pages')).toBe(0);
  expect(count('find', 'campaigns')).toBe(polls);
  expect(count('find', 'rates')).toBeLessThanOrEqual(rests * polls + 1);
  expect(count('findAndModify', 'agendaJobs')).toBeLessThanOrEqual(4 * polls);
  // Now and then: due retries, pages that others may have let go of, a block of tokens.
  const rest = commands.filter(({ collection }) => collection !== 'agendaJobs').length;
  expect(rest).toBeLessThanOrEqual((1.5 + rests) * polls);
}

it('hours that are closed, of the campaign or of each recipient', async () => {
  const { rig, watched } = await start();
  const zones = ['Europe/Paris', 'Etc/UTC'];
  const audience = people(40).map((row, index) => ({ ...row, timezone: zones[index % 2] }));
  for (let n = 0; n < 5; n += 1) {
    await rig.create({ window, rate: { perMinute: 1 } });
    await rig.create({ window: inOwnHours, audience });
  }
  await expect.poll(() => runsOf(db).countDocuments({ status: 'sending' }), PATIENCE).toBe(10);
  await expectRest(watched, 1);
  expect(rig.provider.calls.all).toEqual([]);
});

it('tokens that are far away', async () => {
  const { rig, watched } = await start();
  for (let n = 0; n < 10; n += 1) await rig.create({ rate: { perHour: 1 } });
  await rig.provider.calls.count(10);
  await expect.poll(() => pagesOf(db).countDocuments({ status: 'claimed' }), PATIENCE).toBe(0);
  await expectRest(watched, 1);
  expect(rig.provider.calls.all).toHaveLength(10);
});

it('campaigns with rates and hours, none of which is due', async () => {
  const { rig, watched } = await start();
  const limits = { window, rate: { perHour: 1 } };
  for (let n = 0; n < 5; n += 1) {
    await rig.create({ ...limits, sendAt: '2035-01-01T00:00:00Z' });
    await rig.create({ ...limits, recurrence: { daily: { at: '09:00' } }, sendAt: undefined });
  }
  await expectRest(watched, 0);
});
