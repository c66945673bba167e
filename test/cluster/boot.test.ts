/**
 * Eight servers start at the same instant on campaigns that crashed in every way: each keeps or gets one alarm, each that
 * is due runs once, and every recipient is handed over exactly once. `FAULTS=long` does it more often.
 */
import { type Collection, ObjectId } from 'mongodb';
import { afterEach, expect, it } from 'vitest';
import type { Campaign } from '../../src/campaign-view.ts';
import { openBulkRun } from '../../src/store/campaign-transitions.ts';
import { type CampaignDoc, runIdOf } from '../../src/store/documents.ts';
import { insertRun, newRun } from '../../src/store/runs.ts';
import type { Store } from '../../src/store/store.ts';
import {
  COLLECTIONS,
  campaignOf,
  campaignsOf,
  expectOrder,
  inHours,
  people,
  runsOf,
  startRig,
  stopAll,
  testStore,
} from '../engine/fixtures.ts';
import { PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import { type Fleet, startFleet } from './fleet.ts';

const { db, uri } = await testDatabase();
const ROUNDS = process.env.FAULTS === 'long' ? 20 : 2;
const CAMPAIGNS = 200;
const RECIPIENTS = 3;

afterEach(stopAll);

const KINDS = ['future', 'overdue', 'processing'] as const;
type Kind = (typeof KINDS)[number];

it('eight servers start at the same instant, again and again: one alarm each, one run each', async () => {
  // However long all wait at the gate, nobody's sends are given up and nobody's pages are taken.
  const patient = { sendTimeoutMs: 300_000, claimTtlMs: 60_000 };
  const scheduler = { pageSize: 10, heartbeatMs: 1_000, ...patient };
  const fleet = await startFleet(8, { uri, gated: true, scheduler });
  const store = await testStore(uri);
  try {
    for (let round = 0; round < ROUNDS; round += 1) await boot(fleet, store);
  } finally {
    await store.close();
  }
  fleet.expectClean();
}, 600_000);

async function boot(fleet: Fleet, store: Store): Promise<void> {
  const kinds = await makeCampaigns(store);
  const due = [...kinds.values()].filter((kind) => kind !== 'future').length;
  fleet.clearLog();
  await fleet.all('close');
  await fleet.all('start');

  await expect.poll(() => handedOverRuns(fleet), PATIENCE).toBe(due);
  await expect.poll(alarmIds, PATIENCE).toEqual([...kinds.keys()].sort());
  await fleet.all('open');
  await expect.poll(() => campaignsOf(db).countDocuments({ status: 'completed' }), PATIENCE).toBe(due);
  const future = [...kinds].flatMap(([id, kind]) => (kind === 'future' ? [id] : []));
  await expect.poll(alarmIds, PATIENCE).toEqual(future.sort());

  expect(await runsOf(db).countDocuments()).toBe(due);
  const recipients = fleet.handOvers().map(({ recipient, run }) => `${run} ${recipient}`);
  expect(recipients).toHaveLength(due * RECIPIENTS);
  expect(new Set(recipients).size).toBe(due * RECIPIENTS);
  await expect.poll(falseAlarms, PATIENCE).toEqual([]);
  await fleet.all('stop');
  await expectOrder(db);
  await Promise.all(COLLECTIONS.map((name) => db.collection(name).deleteMany({})));
}

const handedOverRuns = (fleet: Fleet): number => new Set(fleet.handOvers().map(({ run }) => run)).size;

/** Campaign ids of all alarms, sorted: twice the same id would be two alarms. */
async function alarmIds(): Promise<string[]> {
  const alarms = await jobs().find().toArray();
  return alarms.map(({ data }) => data.campaignId).sort();
}

/** A campaign that is not due names its one alarm, and that one rings at its time: those of which this is not true. */
async function falseAlarms(): Promise<unknown[]> {
  const alarms = new Map((await jobs().find().toArray()).map((alarm) => [alarm.data.campaignId, alarm]));
  const campaigns = await campaignsOf(db).find({ status: 'scheduled' }).toArray();
  return campaigns.flatMap(({ _id, name, agendaJobId, nextRunAt }) => {
    const alarm = alarms.get(_id.toHexString());
    const isTrue =
      alarm?._id.toHexString() === agendaJobId && alarm?.nextRunAt?.getTime() === nextRunAt?.getTime();
    return isTrue ? [] : [{ name, agendaJobId, nextRunAt, alarm }];
  });
}

interface Job {
  _id: ObjectId;
  name: string;
  data: { campaignId: string };
  nextRunAt: Date | null;
  lockedAt: Date | null;
}
const jobs = (): Collection<Job> => db.collection<Job>('agendaJobs');

/** Writes campaigns through the API of a process without a worker, then breaks them as crashes do. */
async function makeCampaigns(store: Store): Promise<Map<string, Kind>> {
  const rig = await startRig(uri, { worker: false });
  const kinds = new Map<string, Kind>();
  const make = async (index: number): Promise<void> => {
    const kind = KINDS[index % KINDS.length] as Kind;
    const sendAt = inHours(kind === 'future' ? 2 + index : -1);
    const audience = people(RECIPIENTS, `c${index}p`);
    const campaign = await rig.scheduler.campaigns.create(
      campaignOf(audience, { name: `${kind} ${index}`, sendAt }),
    );
    kinds.set(campaign.id, kind);
    if (kind === 'processing') await begin(store, campaign, index);
    await breakAlarm(campaign.id, index);
  };
  for (let first = 0; first < CAMPAIGNS; first += 20)
    await Promise.all(Array.from({ length: 20 }, (_, offset) => make(first + offset)));
  await stopAll();
  return kinds;
}

/** As a crash leaves it right after the campaign was opened, with and without its run. */
async function begin(store: Store, { id }: Campaign, index: number): Promise<void> {
  const campaign = (await campaignsOf(db).findOne({ _id: new ObjectId(id) })) as CampaignDoc;
  const ref = { runId: runIdOf(campaign._id, 'once'), occurrence: 'once' };
  await openBulkRun(store, campaign, ref, new Date());
  if (index % 2 === 0) await insertRun(store, newRun(campaign, ref, new Date()));
}

/** Gone; at rest for ever; locked by a worker that is no more, long ago and just now; or in order. */
async function breakAlarm(campaignId: string, index: number): Promise<void> {
  const alarm = { 'data.campaignId': campaignId };
  const locked = (lockedAt: Date) => ({
    lockedAt,
    lockToken: 'of-the-dead',
    lastModifiedBy: 'a-dead-worker',
  });
  const how = Math.floor(index / KINDS.length) % 5;
  if (how === 0) await jobs().deleteOne(alarm);
  if (how === 1) await jobs().updateOne(alarm, { $set: { nextRunAt: null, lockedAt: null } });
  if (how === 2) await jobs().updateOne(alarm, { $set: { nextRunAt: null, ...locked(inHours(-1)) } });
  if (how === 3) await jobs().updateOne(alarm, { $set: locked(new Date()) });
}
