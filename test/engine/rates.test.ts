/** A slow rate over minutes, in the engine: the clocks of two workers are moved, and the bucket in MongoDB with them. */
import { expect, it } from 'vitest';
import type { RateDoc } from '../../src/store/documents.ts';
import { campaignRateKey } from '../../src/store/rates.ts';
import { fullest } from '../delivery/rate-senders.ts';
import { testDatabase } from '../support/mongo.ts';
import { othersGoOn, people, startRigAt, startTimedRig, tidyUpAfterEach } from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';
import { LONG_HELD } from './test-clock.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const MINUTE = 60_000;
const MINUTES = 5;
/** A token may be used up to a second late, and the next one in time. */
const LATE = 1_000;

it('one a minute over two workers: never a second one within the minute, and the next one when it is over', async () => {
  const provider = newProvider();
  const { rig, clock } = await startRigAt(uri, '2030-01-07T10:00:00Z', { provider });
  await startTimedRig(uri, { provider, ...LONG_HELD }, clock);
  const times: number[] = [];
  provider.plan(({ recipient }) => {
    if (recipient.id.startsWith('p')) times.push(clock.monotonic());
  });
  const { id } = await rig.create({ audience: people(MINUTES + 3), rate: { perMinute: 1 } });
  /** To the server the last token was taken so much earlier: its own clock cannot be moved. */
  const pass = async (ms: number): Promise<void> => {
    const earlier = { $set: { at: { $subtract: ['$at', ms] } } };
    await db.collection<RateDoc>('rates').updateOne({ _id: campaignRateKey(id) }, [earlier]);
    clock.advance(ms);
  };
  await expect.poll(() => times.length, PATIENCE).toBe(1);
  for (let minute = 1; minute <= MINUTES; minute += 1) {
    for (const ms of [5_000, 20_000, 25_000]) {
      await pass(ms);
      await othersGoOn(rig);
      expect(fullest(times, MINUTE - LATE)).toBe(1);
    }
    await pass(MINUTE - 50_000);
    await expect.poll(() => times.length, PATIENCE).toBeGreaterThan(minute);
  }
  expect(fullest(times, MINUTE - LATE)).toBe(1);
  const [first = 0, last = 0] = [times[0], times.at(-1)];
  expect(last - first).toBeGreaterThanOrEqual(MINUTES * MINUTE - LATE);
  provider.expectNobodyTwice();
});
