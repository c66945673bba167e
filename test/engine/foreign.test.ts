/** Campaigns that another program wrote into the collection: adopted where they can be, else skipped with the reason. */
import { ObjectId } from 'mongodb';
import { describe, expect, it } from 'vitest';
import { testDatabase } from '../support/mongo.ts';
import { campaignsOf, inHours, people, type Rig, startRig, tidyUpAfterEach } from './fixtures.ts';
import { PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const written = () => db.collection('campaigns');
const jobs = () => db.collection('agendaJobs');

/** A document as somebody would write it by hand. */
const document = (more: object = {}) => ({
  name: 'From elsewhere',
  status: 'scheduled',
  sendAt: inHours(-1),
  messenger: 'post',
  content: { text: 'hello' },
  audience: people(5),
  ...more,
});

async function write(more: object = {}): Promise<string> {
  const { insertedId } = await written().insertOne(document(more));
  return String(insertedId);
}
const idle = (): Promise<Rig> => startRig(uri, { worker: false });

describe('adopted', () => {
  it('an overdue one with a list runs at once, whatever its ids are made of', async () => {
    const object = new ObjectId();
    const rig = await startRig(uri);
    await rig.scheduler.recover(); // the pass of the start is over: it would be joined
    const id = await write({
      audience: [
        { id: 7, to: 'a@example.org', vars: { first_name: 'Ann', since: new Date(0) } },
        { id: object, to: 'b@example.org' },
        { id: 'seven', to: 491234567 },
        { id: 'seven', to: 'again@example.org' },
        { name: 'without id' },
      ],
    });
    const { recovered } = await rig.scheduler.recover();
    expect(recovered).toEqual([{ id, name: 'From elsewhere', status: 'start' }]);
    await rig.until(id, 'completed');
    const sent = rig.provider.calls.all.map(({ recipient }) => [recipient.id, recipient.to]);
    expect(sent).toEqual([
      ['7', 'a@example.org'],
      [object.toHexString(), 'b@example.org'],
      ['seven', '491234567'],
    ]);
    expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 3, duplicates: 1, rejected: 1 });
    expect(await written().findOne()).toMatchObject({
      schemaVersion: 1,
      audience: { audienceId: expect.any(String) },
    });
  });

  it('one for later gets an alarm and keeps what we do not know of', async () => {
    const rig = await idle();
    const sendAt = inHours(5);
    const id = await write({ sendAt: sendAt.toISOString(), owner: 'ann', priority: 7, concurrency: 3 });
    const { recovered } = await rig.scheduler.recover();
    expect(recovered).toEqual([{ id, name: 'From elsewhere', status: 'reschedule' }]);
    const alarm = await jobs().findOne();
    expect([alarm?.data, alarm?.nextRunAt]).toEqual([{ campaignId: id }, sendAt]);
    expect(await rig.scheduler.campaigns.find(id)).toMatchObject({
      status: 'scheduled',
      sendAt,
      priority: 7,
      agendaJobId: alarm?._id.toHexString(),
    });
    expect(await written().findOne()).toMatchObject({ owner: 'ann', limits: { concurrency: 3 } });
  });

  it('one that names a source is read by it', async () => {
    const seen: unknown[] = [];
    const source = (params: unknown) => {
      seen.push(params);
      return people(12);
    };
    const id = await write({ audience: { source: 'customers', params: { country: 'DE' } } });
    const rig = await startRig(uri, { audiences: { customers: source } });
    await rig.until(id, 'completed');
    expect(seen).toEqual([{ country: 'DE' }]);
    expect(rig.provider.left).toHaveLength(12);
  });

  it('one that another program had begun is sent by us, and is reported once', async () => {
    const id = await write({ status: 'processing' });
    const rig = await startRig(uri, { worker: false });
    const report = await rig.scheduler.recover();
    expect([report.recovered.map((entry) => entry.id), report.skipped]).toEqual([[id], []]);
    const worker = await startRig(uri);
    await worker.until(id, 'completed');
    expect(worker.provider.left).toHaveLength(5);
  });

  it('with an alarm of its own from before: it waits until it is adopted', async () => {
    const id = await write();
    const ringing = { name: 'process-bulk-campaign', data: { campaignId: id }, type: 'normal', priority: 0 };
    await jobs().insertOne({ ...ringing, nextRunAt: new Date(0), lockedAt: null, disabled: null });
    const rig = await startRig(uri);
    await rig.until(id, 'completed');
    expect(rig.provider.left).toHaveLength(5);
    expect(rig.log.filter(({ level }) => level === 'error')).toEqual([]);
  });

  it('once, however many workers find it', async () => {
    const rig = await idle();
    const others = [await idle(), await idle()];
    const ids = await Promise.all(Array.from({ length: 20 }, () => write({ sendAt: inHours(2) })));
    await Promise.all([rig, ...others].map(({ scheduler }) => scheduler.recover()));
    expect(await jobs().countDocuments()).toBe(20);
    expect(await campaignsOf(db).countDocuments({ rev: 1, schemaVersion: 1 })).toBe(ids.length);
  });
});

describe('skipped with the reason', () => {
  it.each<[string, object, string]>([
    ['no name', { name: undefined }, 'Expected `name` to be'],
    ['no messenger', { messenger: null }, 'Expected `messenger` to be'],
    ['an unknown messenger', { messenger: 'pots' }, 'Unknown messenger `pots`. Known messengers: `post`.'],
    ['no audience', { audience: undefined }, 'Expected `audience` to be'],
    ['an audience that is text', { audience: 'everybody' }, 'Expected `audience` to be'],
    ['an unknown source', { audience: { source: 'customers' } }, 'Unknown source `customers`'],
    ['no content', { content: undefined }, 'Expected `content` to be'],
    ['no time', { sendAt: undefined }, 'it is scheduled, but has neither `sendAt` nor `recurrence`'],
    ['a time without an offset', { sendAt: '2026-03-01T09:00:00' }, '`sendAt`'],
    ['a time that is nonsense', { sendAt: { at: 'noon' } }, '`sendAt`'],
    ['a wrong number', { concurrency: 'many' }, '`concurrency`'],
  ])('%s', async (_what, more, reason) => {
    const rig = await idle();
    const id = await write(more);
    const { recovered, skipped } = await rig.scheduler.recover();
    expect(recovered).toEqual([]);
    expect(skipped).toEqual([{ id, name: expect.any(String), reason: expect.stringContaining(reason) }]);
    expect(await jobs().countDocuments()).toBe(0);
    expect(await written().findOne()).not.toHaveProperty('schemaVersion');
  });

  it('an id that is not an ObjectId, without holding up the others', async () => {
    const rig = await idle();
    for (const _id of ['my-campaign', 42]) await written().insertOne({ _id: _id as never, ...document() });
    const good = await write({ sendAt: inHours(2) });
    const { recovered, skipped } = await rig.scheduler.recover();
    expect(recovered.map(({ id }) => id)).toEqual([good]);
    expect(skipped.map(({ id }) => id).sort()).toEqual(['42', 'my-campaign']);
    for (const { reason } of skipped) expect(reason).toContain('ObjectId');
  });

  it('is found again once it has been put right', async () => {
    const rig = await startRig(uri);
    await rig.scheduler.recover(); // the pass of the start is over: it would be joined
    const id = await write({ messenger: 'pots' });
    expect((await rig.scheduler.recover()).skippedCount).toBe(1);
    await written().updateOne({}, { $set: { messenger: 'post' } });
    expect((await rig.scheduler.recover()).recoveredCount).toBe(1);
    await rig.until(id, 'completed');
    await expect.poll(() => rig.provider.left.length, PATIENCE).toBe(5);
  });

  it('other statuses are nobody’s business', async () => {
    const rig = await idle();
    for (const status of ['draft', 'paused', 'completed', 'sending', undefined]) await write({ status });
    const { recoveredCount, skippedCount } = await rig.scheduler.recover();
    expect([recoveredCount, skippedCount]).toEqual([0, 0]);
    expect(await rig.scheduler.campaigns.list()).toEqual([]);
  });
});
