/** What the claims of a real run cost whose recipients live in many zones, as MongoDB's profiler has seen them. */
import type { Document } from 'mongodb';
import { afterEach, expect, it } from 'vitest';
import { testDatabase } from '../support/mongo.ts';
import { inHours, people, runsOf, startTimedRig, tidyUpAfterEach } from './fixtures.ts';
import { PATIENCE } from './provider.ts';
import { LONG_HELD } from './test-clock.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);
const ZONE_SCAN = 'IXSCAN { runId: 1, status: 1, timezone: 1, orderNo: 1, n: 1 }';
const ALL_ZONES = Intl.supportedValuesOf('timeZone');

afterEach(async () => {
  await db.command({ profile: 0 });
  await db.dropCollection('system.profile');
});

/** Every claim of a free page from now on, as it was carried out. Returns the way to read them. */
async function watchClaims(): Promise<() => Promise<Document[]>> {
  await db.createCollection('system.profile', { capped: true, size: 64_000_000 });
  const profile = db.collection('system.profile', { readConcern: { level: 'local' } });
  await db.command({ profile: 1, filter: { 'command.query.status': 'pending' } });
  const fields = [
    'command.query.timezone',
    'planSummary',
    'keysExamined',
    'docsExamined',
    'hasSortStage',
    'writeConflicts',
  ];
  const projection = Object.fromEntries(fields.map((name) => [name, 1]));
  return () => profile.find({ 'command.findAndModify': 'ledger_pages' }, { projection }).toArray();
}

it.each([40, 250])(
  'a claim of a run in %i zones reads a few keys of the index, and one page',
  async (count) => {
    const step = Math.floor(ALL_ZONES.length / count);
    const zones = ALL_ZONES.filter((_, index) => index % step === 0).slice(0, count);
    const audience = people(4 * count).map((row, index) => ({ ...row, timezone: zones[index % count] }));
    const { rig, clock } = await startTimedRig(uri, LONG_HELD);
    clock.goTo('2030-03-04T12:00:00Z');
    const claims = await watchClaims();
    const window = { from: '09:00', to: '17:00', timezone: 'recipient', fallbackTimezone: 'UTC' };
    await rig.create({ window, audience, sendAt: inHours(-1) });
    await expect.poll(() => runsOf(db).countDocuments({ status: 'sending' }), PATIENCE).toBe(1);
    const nextHour = () => {
      clock.advance(3_600_000);
      return rig.provider.left.length;
    };
    await expect.poll(nextHour, { ...PATIENCE, interval: 100 }).toBeGreaterThanOrEqual(4 * 40);

    const found = await claims();
    expect(found.length).toBeGreaterThanOrEqual(40);
    for (const claim of found) {
      for (const scan of claim.planSummary.split(/, (?=IXSCAN)/)) expect(scan).toBe(ZONE_SCAN);
      expect(claim.hasSortStage).toBeUndefined();
      const { keysExamined, docsExamined, writeConflicts = 0 } = claim; // whoever was beaten to a page reads on
      expect(keysExamined).toBeLessThanOrEqual(10 + writeConflicts);
      expect(docsExamined).toBeLessThanOrEqual(1 + writeConflicts);
    }
  },
);
