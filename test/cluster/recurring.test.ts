/**
 * A rule of every second on eight processes, some of which die all the time: every nominal second has exactly one run,
 * none is lost, doubled or early, whoever was opening it. Beside it one with the default policies: every nominal second has
 * a run or stands in the journal, never both.
 */
import { ObjectId } from 'mongodb';
import { afterAll, expect, it } from 'vitest';
import { campaignsOf, QUICK_TAKEOVER, runsOf, SHORT, startRig, tidyUpAfterEach } from '../engine/fixtures.ts';
import { PATIENCE } from '../engine/provider.ts';
import { chance } from '../faults/random.ts';
import { CLOCKS_APART_MS } from '../faults/verify.ts';
import { testDatabase } from '../support/mongo.ts';
import { startFleet } from './fleet.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);
const LONG = process.env.FAULTS === 'long';
/** So many nominal seconds have a run before it ends. */
const SECONDS = LONG ? 60 : 20;
const PROCESSES = LONG ? 8 : 4;
const SEED = Number(process.env.FAULT_SEED ?? Date.now() % 1_000_000);
const random = chance(SEED);
afterAll(() => console.log(`FAULT_SEED=${SEED}`));

it(
  'every second one run, over processes that are killed and replaced',
  async () => {
    const fleet = await startFleet(PROCESSES, { uri, scheduler: { ...SHORT, ...QUICK_TAKEOVER } });
    await fleet.all('start');
    const api = await startRig(uri, { worker: false });
    const audience = [{ id: '1', to: 'a@example.org' }];
    const every = { seconds: 1 };
    const { id } = await api.create({ audience, recurrence: { every, misfire: 'all', overlap: 'queue' } });
    const { id: byDefault } = await api.create({ audience, recurrence: { every } });
    const alive = [...fleet.workers];
    const ofCampaign = { campaignId: new ObjectId(id) };
    const opened = () => runsOf(db).countDocuments(ofCampaign);
    for (let before = 0; before < SECONDS; before = await opened()) {
      const victim = alive.splice(random.between(0, alive.length - 1), 1)[0];
      await victim?.kill();
      const next = await fleet.add();
      next.send({ kind: 'start' });
      await next.next('start-done');
      alive.push(next);
      await expect.poll(opened, PATIENCE).toBeGreaterThan(before + 1);
    }
    const ofDefault = { campaignId: new ObjectId(byDefault) };
    const openedByDefault = () => runsOf(db).countDocuments(ofDefault);
    await expect.poll(openedByDefault, PATIENCE).toBeGreaterThan(SECONDS / 4);
    for (const each of [id, byDefault])
      await api.scheduler.campaigns.update(each, {
        recurrence: { every: { hours: 1 }, start: '2030-01-01T00:00:00Z' },
      });
    await expect
      .poll(() => campaignsOf(db).countDocuments({ 'openRuns.0': { $exists: true } }), PATIENCE)
      .toBe(0);
    // What the last victim had locked moves on when its lock has expired.
    const locked = { lockedAt: { $ne: null } };
    await expect.poll(() => db.collection('agendaJobs').countDocuments(locked), PATIENCE).toBe(0);

    const runs = await runsOf(db).find(ofCampaign).sort({ nominalAt: 1 }).toArray();
    const seconds = runs.map((run) => (run.nominalAt?.getTime() ?? 0) / 1000);
    expect(outOfRow(seconds)).toEqual([]);
    for (const { openedAt, nominalAt } of runs)
      expect(openedAt.getTime() - (nominalAt?.getTime() ?? 0)).toBeGreaterThanOrEqual(-CLOCKS_APART_MS);
    // Nothing but what was due and not begun when the rule was changed.
    expect(await skippedSeconds(id, { $ne: 'rule-changed' })).toEqual([]);
    const others = await runsOf(db).find(ofDefault).toArray();
    const ran = others.map((run) => (run.nominalAt?.getTime() ?? 0) / 1000);
    // What was left out is in the journal once the alarm has rung again.
    const fates = async () => [...ran, ...(await skippedSeconds(byDefault))].sort((a, b) => a - b);
    await expect.poll(async () => outOfRow(await fates()), PATIENCE).toEqual([]);
    fleet.expectClean();
    const perRun = new Map<string, number>();
    for (const { run } of fleet.handOvers()) perRun.set(run, (perRun.get(run) ?? 0) + 1);
    expect([...perRun.values()].filter((count) => count > 1)).toEqual([]);
    const lost = [...runs, ...others].filter((run) => !perRun.has(run._id) && run.report?.unknown !== 1);
    expect(lost.map(({ occurrence }) => occurrence)).toEqual([]);
    await fleet.stop();
  },
  SECONDS * 1000 + 600_000,
);

/** Those that do not follow the one before by a second. */
function outOfRow(seconds: readonly number[]): number[] {
  return seconds.filter((second, index) => second !== (seconds[0] ?? 0) + index);
}

/** The nominal seconds that the journal says were left out, for any reason or these. */
async function skippedSeconds(campaignId: string, reason: object = { $exists: true }): Promise<number[]> {
  const skipped = { kind: 'occurrence-skipped', 'detail.reason': reason };
  const entries = await db
    .collection('journal')
    .find({ campaignId: new ObjectId(campaignId), ...skipped })
    .toArray();
  return entries.flatMap(({ detail }) => {
    const first = new Date(detail.first).getTime() / 1000;
    expect(new Date(detail.last).getTime() / 1000).toBe(first + detail.count - 1);
    return Array.from({ length: detail.count }, (_, index) => first + index);
  });
}
