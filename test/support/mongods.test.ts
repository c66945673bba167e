import { afterAll, beforeAll, expect, it } from 'vitest';
import { connectTo, type Mongods, startMongods } from './mongods.ts';

let mongods: Mongods;
beforeAll(async () => {
  mongods = await startMongods({ members: 3 });
});
afterAll(() => mongods.stop());

it('three members: writes survive a step-down, the death and the freezing of a primary', async () => {
  const client = await connectTo(mongods.uriFor('app'));
  const marks = client.db().collection('marks');
  const mark = (): Promise<unknown> => marks.insertOne({}, { writeConcern: { w: 'majority' } });
  await mark();

  const first = await mongods.primary();
  await mongods.stepDown();
  const second = await mongods.primary();
  expect(second).not.toBe(first);
  await mark();

  await second.kill();
  const third = await mongods.primary();
  expect(third).not.toBe(second);
  await mark();
  await second.start();

  third.freeze();
  expect(await mongods.primary()).not.toBe(third);
  third.thaw();
  await mark();
  expect(await marks.countDocuments()).toBe(4);
  await client.close();
});
