/**
 * kill -9, at random instants and at every named step, judged by the messenger's own log. A round is a sequence of one to
 * three deaths over campaigns of different policies; rounds run in lanes side by side.
 *
 * FAULT_SEED repeats the plans of a run, FAULT_ROUNDS sets their number (long mode: FAULT_ROUNDS=1000), FAULT_ONLY (a
 * number, or several with commas) plays single rounds, FAULT_VERBOSE tells of each.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { testDatabase } from '../support/mongo.ts';
import { Lane } from './lane.ts';
import { draw, FULL_ROUNDS, NAMED } from './plans.ts';
import { chance } from './random.ts';
import { type Outcome, play } from './round.ts';

const SEED = Number(process.env.FAULT_SEED ?? Date.now() % 1_000_000);
const ROUNDS = Number(process.env.FAULT_ROUNDS ?? FULL_ROUNDS);
const ONLY = process.env.FAULT_ONLY;
const PAGE_SIZES = [10, 20, 35, 50];
const CAMPAIGNS = 2;

const lanes = await Promise.all(
  PAGE_SIZES.map(async (pageSize, index) => {
    const { uri, db } = await testDatabase();
    return Lane.open({ uri, db, seed: SEED + index * 1_000, options: { pageSize } });
  }),
);
afterAll(() => Promise.all(lanes.map((lane) => lane.close())));

describe(`kill -9 (FAULT_SEED=${SEED})`, () => {
  const numbers =
    ONLY === undefined ? Array.from({ length: ROUNDS }, (_, index) => index) : ONLY.split(',').map(Number);

  it(
    `${numbers.length} rounds: nobody lost, nobody twice, the books balance`,
    async () => {
      const outcomes: Outcome[] = [];
      const complaints: string[] = [];
      const work = async (lane: Lane): Promise<void> => {
        for (let index = numbers.shift(); index !== undefined; index = numbers.shift()) {
          const round = draw(index, chance(SEED + index), CAMPAIGNS);
          const outcome = await play(lane, round, `round-${index}`);
          outcomes.push(outcome);
          complaints.push(...outcome.complaints.map((text) => `round ${index}: ${text}`));
          if (process.env.FAULT_VERBOSE === undefined) continue;
          console.log(`round ${index}`, JSON.stringify({ ...round, ...outcome }));
        }
      };
      await Promise.all(lanes.map(work));
      expect(complaints).toEqual([]);
      const deaths = outcomes.reduce((sum, outcome) => sum + outcome.deaths, 0);
      console.log(`${outcomes.length} rounds, ${deaths} deaths, FAULT_SEED=${SEED}`);
      if (outcomes.length < FULL_ROUNDS) return;
      const reached = new Set(outcomes.flatMap(({ steps }) => steps));
      const steps = NAMED.map(({ kills }) => String(kills.at(-1)?.[0]));
      expect(steps.filter((step) => !reached.has(step))).toEqual([]);
    },
    30_000 + ROUNDS * 20_000,
  );
});
