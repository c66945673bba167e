/** What a worker that cannot send asks of MongoDB: nothing turns in circles while hours are closed or tokens are far away. */
import { expect, it } from 'vitest';
import { watchedConnection } from '../support/commands.ts';
import { testDatabase } from '../support/mongo.ts';
import { pagesOf, people, runsOf, SHORT, startRigAt, tidyUpAfterEach } from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const POLLS = 20;
const CLOSED = '2030-01-07T20:00:00Z';
const window = { from: '09:00', to: '17:00', timezone: 'UTC' };
const inOwnHours = { ...window, timezone: 'recipient', fallbackTimezone: 'UTC' };

/** No other timer is as long. */
const POLL_MS = 97;

/** A worker that looks for work all the time, and whose other duties are rare. */
async function start() {
  const watched = await watchedConnection(uri);
  const provider = newProvider();
  const messengers = { post: { ...provider.messenger, rate: { perSecond: 50 } } };
  const options = { provider, messengers, pollMs: POLL_MS };
  const { rig, clock } = await startRigAt(watched.connection, CLOSED, options);
  const polls = (): number => clock.ended(POLL_MS);
  const pass = async (count: number): Promise<number> => {
    const from = polls();
    await expect.poll(() => polls() - from, PATIENCE).toBeGreaterThanOrEqual(count);
    return polls() - from;
  };
  /**
   * What so many polls cost, once the worker has come to rest. A poll is a question for open campaigns, and one for the
   * rests of providers where something is to be sent; Agenda looks by a timer of its own, once for each kind of alarm.
   */
  const expectCalm = async (sending: boolean): Promise<void> => {
    await pass(3);
    const { all } = watched.answered;
    const [from, began] = [all.length, performance.now()];
    const most = (await pass(POLLS)) + 1;
    const rings = (performance.now() - began) / SHORT.processEveryMs + 1;
    const commands = all.slice(from);
    const count = (name: string, collection: string): number =>
      commands.filter((one) => one.name === name && one.collection === collection).length;
    expect(count('findAndModify', 'ledger_pages')).toBe(0); // claims
    expect(count('update', 'ledger_pages')).toBe(0);
    expect(count('find', 'campaigns')).toBeLessThanOrEqual(1.5 * most); // a look or two because something has just ended
    expect(count('find', 'rates')).toBeLessThanOrEqual(sending ? most : 0);
    expect(count('findAndModify', 'agendaJobs')).toBeLessThanOrEqual(4 * rings);
    // Now and then: due retries, pages that others may have let go of, a block of tokens.
    const others = commands.filter(({ collection }) => collection !== 'agendaJobs').length;
    expect(others).toBeLessThanOrEqual((sending ? 3 : 2) * most);
  };
  return { rig, expectCalm };
}

it('hours that are closed, of the campaign or of each recipient', async () => {
  const { rig, expectCalm } = await start();
  const zones = ['Europe/Paris', 'Etc/UTC'];
  const audience = people(40).map((row, index) => ({ ...row, timezone: zones[index % 2] }));
  for (let n = 0; n < 5; n += 1) {
    await rig.create({ window, rate: { perMinute: 1 } });
    await rig.create({ window: inOwnHours, audience });
  }
  await expect.poll(() => runsOf(db).countDocuments({ status: 'sending' }), PATIENCE).toBe(10);
  await expectCalm(true);
  expect(rig.provider.calls.all).toEqual([]);
});

it('tokens that are far away', async () => {
  const { rig, expectCalm } = await start();
  for (let n = 0; n < 10; n += 1) await rig.create({ rate: { perHour: 1 } });
  // A token that a busy machine did not use within its second is gone: then nobody of that campaign is sent to.
  const asked = () => db.collection('rates').countDocuments({ _id: /^campaign:/ as never });
  await expect.poll(asked, PATIENCE).toBe(10);
  await expect.poll(() => pagesOf(db).countDocuments({ status: 'claimed' }), PATIENCE).toBe(0);
  const sent = rig.provider.calls.all.length;
  await expectCalm(true);
  expect(sent).toBeGreaterThan(0);
  expect(rig.provider.calls.all).toHaveLength(sent);
});

it('campaigns with rates and hours, none of which is due', async () => {
  const { rig, expectCalm } = await start();
  const limits = { window, rate: { perHour: 1 } };
  for (let n = 0; n < 5; n += 1) {
    await rig.create({ ...limits, sendAt: '2035-01-01T00:00:00Z' });
    await rig.create({ ...limits, recurrence: { daily: { at: '09:00' } }, sendAt: undefined });
  }
  await expectCalm(false);
});
