/** After a crash: what was half done goes on, what has no alarm gets one, and the report says what was done and why not. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { ObjectId } from 'mongodb';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { CampaignScheduler } from '../../src/campaign-scheduler.ts';
import type { Campaign } from '../../src/campaign-view.ts';
import { createCampaignRouter } from '../../src/http/router.ts';
import { openBulkRun } from '../../src/store/campaign-transitions.ts';
import { type CampaignDoc, runIdOf } from '../../src/store/documents.ts';
import { watchedConnection } from '../support/commands.ts';
import { testDatabase } from '../support/mongo.ts';
import { startProxy } from '../support/proxy.ts';
import {
  campaignsOf,
  inHours,
  people,
  type Rig,
  startRig,
  stopRig,
  testStore,
  tidyUpAfterEach,
} from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';
import { SURELY_ALIVE } from './short.ts';

const { db, uri, name } = await testDatabase();
tidyUpAfterEach(db);

const jobs = () => db.collection('agendaJobs');
const alarmOf = ({ id }: Campaign) => ({ 'data.campaignId': id });
const DEAD = { lockToken: 'of-the-dead', lastModifiedBy: 'a-dead-worker' };

/** Writes what a crash right after the opening leaves: the campaign is processing, its run does not exist. */
async function begin({ id }: Campaign): Promise<void> {
  const store = await testStore(uri);
  const campaign = (await campaignsOf(db).findOne({ _id: new ObjectId(id) })) as CampaignDoc;
  const ref = { runId: runIdOf(campaign._id, 'once'), occurrence: 'once' };
  await openBulkRun(store, campaign, ref, new Date());
  await store.close();
}

describe('a restart', () => {
  it('with 50 of 100 sent: the other 50 follow, and the log says so', async () => {
    const provider = newProvider();
    const before = await startRig(uri, { provider });
    const { id } = await before.create({ audience: people(100), concurrency: 5 });
    await provider.calls.count(45);
    const gate = provider.hold();
    await provider.calls.count(50);
    const stopped = stopRig(before);
    gate.open();
    await stopped;
    const sent = provider.left.length;
    expect(sent).toBeLessThan(100);

    const restarting = provider.hold();
    const after = await startRig(uri, { provider });
    const completed = after.signals('campaign:completed');
    const lines = () => after.log.map(({ message }) => message);
    await expect.poll(lines, PATIENCE).toContain('resuming campaign');
    await expect.poll(lines, PATIENCE).toContain('recovery: 1 pending campaign found');
    restarting.open();
    expect((await completed.next()).report).toMatchObject({ total: 100, sent: 100, unknown: 0 });
    expect(provider.left).toHaveLength(100);
    provider.expectNobodyTwice();
    await after.until(id, 'completed');
  });
});

describe('the report', () => {
  const make = async (rig: Rig, kind: string, breaking: (campaign: Campaign) => Promise<unknown>) => {
    const sendAt = inHours(kind === 'future' ? 3 : -1);
    const campaign = await rig.create({ name: `${kind} ${breaking.name}`, sendAt });
    if (kind === 'processing') await begin(campaign);
    await breaking(campaign);
    return campaign;
  };
  const there = async (): Promise<void> => undefined;
  const gone = (campaign: Campaign) => jobs().deleteOne(alarmOf(campaign));
  const atRest = (campaign: Campaign) =>
    jobs().updateOne(alarmOf(campaign), { $set: { nextRunAt: null, lockedAt: null } });
  const ofTheDead = (campaign: Campaign) =>
    jobs().updateOne(alarmOf(campaign), { $set: { nextRunAt: null, lockedAt: new Date(), ...DEAD } });
  const tooLate = (campaign: Campaign) =>
    jobs().updateOne(alarmOf(campaign), { $set: { nextRunAt: inHours(9) } });

  it.each([
    ['future', 'reschedule', 'its alarm will ring in time'],
    ['overdue', 'start', 'its alarm is ringing'],
    ['processing', 'resume', undefined],
  ])('%s: by what its alarm is like', async (kind, action, skipped) => {
    const rig = await startRig(uri, { worker: false });
    const broken = [];
    // (An alarm of a campaign at work that rings late is a safety net all the same.)
    for (const breaking of [gone, atRest, ofTheDead, ...(kind === 'processing' ? [] : [tooLate])])
      broken.push(await make(rig, kind, breaking));
    const fine = await make(rig, kind, there);
    const report = await rig.scheduler.recover();
    const byId = new Map(report.recovered.map((entry) => [entry.id, entry]));
    for (const { id, name } of broken) expect(byId.get(id)).toEqual({ id, name, status: action });
    if (skipped === undefined) expect(byId.get(fine.id)?.status).toBe(action);
    else expect(report.skipped).toEqual([{ id: fine.id, name: fine.name, reason: skipped }]);
    const all = broken.length + 1;
    expect(report.recoveredCount + report.skippedCount).toBe(all);

    expect(await jobs().countDocuments()).toBe(all);
    for (const campaign of [...broken, fine]) {
      const alarm = await jobs().findOne(alarmOf(campaign));
      const found = await rig.scheduler.campaigns.find(campaign.id);
      expect([alarm?.lockedAt, alarm?._id.toHexString()]).toEqual([null, found?.agendaJobId]);
      // The one of the dead rings at once, and is then set to its time by its own handler.
      const atItsTime = kind === 'future' && !campaign.name.endsWith('ofTheDead');
      if (atItsTime) expect(alarm?.nextRunAt).toEqual(campaign.sendAt);
      else expect(alarm?.nextRunAt.getTime()).toBeLessThan(Date.now() + 60_000);
    }
    // Twice does no harm, and finds everything in order now.
    const again = await rig.scheduler.recover();
    expect(again.recoveredCount).toBe(kind === 'processing' ? all : 0);
    const worker = await startRig(uri);
    if (kind === 'future') {
      const inTime = { nextRunAt: { $gt: inHours(2) }, lockedAt: null };
      return expect.poll(() => jobs().countDocuments(inTime), PATIENCE).toBe(all);
    }
    for (const { id } of [...broken, fine]) await worker.until(id, 'completed');
    expect(worker.provider.left).toHaveLength(30 * all);
  });

  it('leaves alone what is paused, over or being sent', async () => {
    const rig = await startRig(uri, SURELY_ALIVE);
    await rig.scheduler.recover(); // the pass of the start is over: it would be joined
    const gate = rig.provider.hold();
    const { id } = await rig.create();
    const paused = await rig.create({ sendAt: inHours(1) });
    await rig.scheduler.campaigns.pause(paused.id);
    await rig.create({ draft: true });
    await rig.provider.calls.next();
    await expect
      .poll(() => jobs().countDocuments({ 'data.campaignId': id, lockedAt: null }), PATIENCE)
      .toBe(1);
    const { recovered, skipped } = await rig.scheduler.recover();
    expect(recovered).toEqual([]);
    expect(skipped).toEqual([{ id, name: 'News', reason: 'a live worker is sending it' }]);
    gate.open();
    await rig.until(id, 'completed');
    expect((await rig.scheduler.recover()).skippedCount).toBe(0);
  });

  it('of a pass under way is what a second caller gets, not that of an earlier one', async () => {
    const proxy = await startProxy(uri);
    onTestFinished(() => proxy.stop());
    const slow = await startRig(proxy.uriFor(name), { worker: false });
    const watched = await watchedConnection(uri);
    const rig = await startRig(watched.connection, { worker: false });
    await make(rig, 'future', gone);
    expect((await rig.scheduler.recover()).recoveredCount).toBe(1);
    const second = await make(rig, 'future', gone);
    const hold = proxy.hold((command) => command.find === 'campaigns');
    const first = slow.scheduler.recover();
    await hold.reached();
    const waiting = rig.scheduler.recover();
    await watched.nextOf('find', 'leases'); // it has seen that a pass is under way
    hold.release();
    expect((await first).recovered.map(({ id }) => id)).toEqual([second.id]);
    expect(await waiting).toEqual(await first);
  });

  it('tells of an alarm when it is durable, not before', async () => {
    const proxy = await startProxy(uri);
    onTestFinished(() => proxy.stop());
    const rig = await startRig(proxy.uriFor(name), { worker: false });
    const recovered = rig.signals('campaign:recovered');
    const campaign = await make(rig, 'future', gone);
    const hold = proxy.hold((command) => command.insert === 'agendaJobs');
    const pass = rig.scheduler.recover();
    await hold.reached();
    expect(recovered.all).toEqual([]);
    hold.release();
    expect(await recovered.next()).toMatchObject({ campaign: { id: campaign.id }, action: 'reschedule' });
    await pass;
  });

  it('overdue ones are marked with how late they started', async () => {
    const rig = await startRig(uri, { worker: false });
    const campaign = await make(rig, 'overdue', gone);
    const worker = await startRig(uri);
    await worker.until(campaign.id, 'completed');
    expect(
      (await worker.log.find(({ message }) => message === 'starting overdue campaign'))?.fields.lateMs,
    ).toBeGreaterThan(3_590_000);
    const run = await db.collection('campaign_runs').findOne();
    expect(run?.lateMs).toBeGreaterThan(3_590_000);
  });

  it('what a newer version wrote is left alone, by recovery and by its own alarm', async () => {
    const rig = await startRig(uri, { worker: false });
    const campaign = await make(rig, 'overdue', there);
    const newer = { $set: { schemaVersion: 99 } };
    await campaignsOf(db).updateOne({ _id: new ObjectId(campaign.id) }, newer);
    const worker = await startRig(uri);
    const { skipped } = await worker.scheduler.recover();
    expect(skipped).toEqual([
      { id: campaign.id, name: campaign.name, reason: 'a newer version of this package wrote it' },
    ]);
    await expect
      .poll(() => jobs().countDocuments({ lastRunAt: { $ne: null }, lockedAt: null }), PATIENCE)
      .toBe(1);
    expect(await db.collection('campaign_runs').countDocuments()).toBe(0);
    await expect(worker.scheduler.campaigns.pause(campaign.id)).rejects.toMatchObject({ code: 'refused' });
    expect((await campaignsOf(db).findOne())?.status).toBe('scheduled');
  });
});

describe('POST /campaigns/recover', () => {
  async function ask(scheduler: CampaignScheduler) {
    const app = express();
    app.use('/api', createCampaignRouter(scheduler, { authorize: () => true }));
    const server = app.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const response = await fetch(`http://127.0.0.1:${port}/api/campaigns/recover`, { method: 'POST' });
    return { status: response.status, body: await response.json() };
  }

  it('answers what was recovered and what was skipped, with reasons', async () => {
    const rig = await startRig(uri, { worker: false });
    const fine = await rig.create({ name: 'Fine', sendAt: inHours(1) });
    const broken = await rig.create({ name: 'Broken', sendAt: inHours(1) });
    await jobs().deleteOne(alarmOf(broken));
    expect(await ask(rig.scheduler)).toEqual({
      status: 200,
      body: {
        success: true,
        recovered: 1,
        skipped: 1,
        details: {
          recovered: [{ id: broken.id, name: 'Broken', status: 'reschedule' }],
          skipped: [{ id: fine.id, name: 'Fine', reason: 'its alarm will ring in time' }],
        },
      },
    });
    await stopRig(rig);
    expect(await ask(rig.scheduler)).toMatchObject({
      status: 503,
      body: { success: false, error: { code: 'stopped' } },
    });
  });
});
