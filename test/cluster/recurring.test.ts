/**
 * A rule of every second on eight processes, some of which die all the time: every nominal second has exactly one run,
 * none is lost, doubled or early, whoever was opening it.
 */
import { afterAll, expect, it } from 'vitest';
import { campaignsOf, runsOf, SHORT, startRig, tidyUpAfterEach } from '../engine/fixtures.ts';
import { PATIENCE } from '../engine/provider.ts';
import { chance } from '../faults/random.ts';
import { testDatabase } from '../support/mongo.ts';
import { startFleet } from './fleet.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);
const LONG = process.env.FAULTS === 'long';
const SECONDS = LONG ? 60 : 20;
const PROCESSES = LONG ? 8 : 4;
const SEED = Number(process.env.FAULT_SEED ?? Date.now() % 1_000_000);
const random = chance(SEED);
afterAll(() => console.log(`FAULT_SEED=${SEED}`));

it(
  'every second one run, over processes that are killed and replaced',
  async () => {
    const fleet = await startFleet(PROCESSES, { uri, scheduler: SHORT });
    await fleet.all('start');
    const api = await startRig(uri, { worker: false });
    const { id } = await api.create({
      audience: [{ id: '1', to: 'a@example.org' }],
      recurrence: { every: { seconds: 1 }, misfire: 'all', overlap: 'queue' },
    });
    const alive = [...fleet.workers];
    const until = performance.now() + SECONDS * 1000;
    const opened = () => runsOf(db).countDocuments();
    while (performance.now() < until) {
      const before = await opened();
      const victim = alive.splice(random.between(0, alive.length - 1), 1)[0];
      await victim?.kill();
      const next = await fleet.add();
      next.send({ kind: 'start' });
      await next.next('start-done', 60_000);
      alive.push(next);
      await expect.poll(opened, PATIENCE).toBeGreaterThan(before + 1);
    }
    await api.scheduler.campaigns.update(id, {
      recurrence: { every: { hours: 1 }, start: '2030-01-01T00:00:00Z' },
    });
    await expect
      .poll(() => campaignsOf(db).countDocuments({ 'openRuns.0': { $exists: true } }), PATIENCE)
      .toBe(0);

    const runs = await runsOf(db).find().sort({ nominalAt: 1 }).toArray();
    const seconds = runs.map((run) => (run.nominalAt?.getTime() ?? 0) / 1000);
    expect(seconds).toEqual(seconds.map((_, index) => (seconds[0] ?? 0) + index));
    expect(seconds.length).toBeGreaterThan(SECONDS / 2);
    for (const { openedAt, nominalAt } of runs)
      expect(openedAt.getTime() - (nominalAt?.getTime() ?? 0)).toBeGreaterThanOrEqual(-50); // server time, by two processes
    const skipped = await db.collection('journal').find({ kind: 'occurrence-skipped' }).toArray();
    expect(skipped).toEqual([]);
    fleet.expectClean();
    const perRun = new Map<string, number>();
    for (const { run } of fleet.handOvers()) perRun.set(run, (perRun.get(run) ?? 0) + 1);
    expect([...perRun.values()].filter((count) => count > 1)).toEqual([]);
    const lost = runs.filter((run) => !perRun.has(run._id) && run.report?.unknown !== 1);
    expect(lost.map(({ occurrence }) => occurrence)).toEqual([]);
    await fleet.stop();
  },
  SECONDS * 1000 + 240_000,
);
