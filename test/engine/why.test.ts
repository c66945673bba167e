/** `why` for campaigns that really are in that situation: on a real server, with real workers, sources and messengers. */
import { describe, expect, it } from 'vitest';
import type { ReasonCode } from '../../src/core/standing.ts';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import type { Why } from '../../src/why.ts';
import { door } from '../queue/signals.ts';
import { testDatabase } from '../support/mongo.ts';
import {
  campaignsOf,
  inHours,
  NO_BREAKER,
  pagesOf,
  people,
  type Rig,
  startRig,
  startTimedRig,
  stopRig,
  tidyUpAfterEach,
} from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

/** Waits until `why` gives this reason. */
async function reasonOf<Code extends ReasonCode>(
  rig: Rig,
  id: string,
  code: Code,
): Promise<Extract<Why, { code: Code }>> {
  let why: Why | undefined;
  const read = async () => {
    why = await rig.scheduler.why(id);
    return why.code;
  };
  await expect.poll(read, PATIENCE).toBe(code);
  return why as Extract<Why, { code: Code }>;
}

describe('before it begins', () => {
  it('a draft; then scheduled, with its time; then paused, by whom and why; then cancelled', async () => {
    const rig = await startRig(uri, { worker: false });
    const sendAt = inHours(2);
    const { id } = await rig.create({ draft: true });
    expect(await rig.scheduler.why(id)).toMatchObject({
      code: 'draft',
      campaign: { id, status: 'draft', queuedRuns: 0 },
      moving: false,
    });
    await rig.scheduler.campaigns.schedule(id, sendAt);
    expect(await rig.scheduler.why(id)).toMatchObject({ code: 'scheduled', until: sendAt });
    await rig.scheduler.campaigns.pause(id, { by: 'ann', reason: 'wrong subject' });
    const paused = await reasonOf(rig, id, 'paused');
    expect(paused).toMatchObject({ by: 'ann', detail: 'wrong subject' });
    expect(paused.since?.getTime()).toBeLessThanOrEqual(paused.at.getTime());
    await rig.scheduler.campaigns.cancel(id, { by: 'bob' });
    expect(await rig.scheduler.why(id)).toMatchObject({ code: 'cancelled', by: 'bob' });
  });

  it('due while only processes without a worker run; then due without an alarm', async () => {
    const api = await startRig(uri, { worker: false });
    const { id } = await api.create({ sendAt: inHours(-1) });
    expect(await api.scheduler.why(id)).toMatchObject({ code: 'no_worker' });
    await campaignsOf(db).updateOne({}, { $set: { status: 'paused' } }); // no recovery at the start of the worker
    const worker = await startRig(uri, { recoverEveryMs: 3_600_000 });
    await worker.scheduler.recover(); // or its pass at the start could find the campaign after all
    await db.collection('agendaJobs').deleteMany({});
    await campaignsOf(db).updateOne({}, { $set: { status: 'scheduled' } });
    const missing = await reasonOf(api, id, 'alarm_missing');
    expect(missing.lateMs).toBeGreaterThanOrEqual(3_600_000);
    await api.scheduler.recover();
    await api.until(id, 'completed');
  });

  it('between two occurrences', async () => {
    const rig = await startRig(uri);
    const { id, nextRunAt } = await rig.create({ recurrence: { every: { hours: 1 }, start: inHours(1) } });
    expect(await rig.scheduler.why(id)).toMatchObject({ code: 'next_occurrence', until: nextRunAt });
  });

  it('what another program or a newer version wrote', async () => {
    const rig = await startRig(uri, { worker: false });
    const foreign = await db.collection('campaigns').insertOne({ name: 'theirs', status: 'scheduled' });
    expect(await rig.scheduler.why(foreign.insertedId.toHexString())).toMatchObject({ code: 'not_adopted' });
    const { id } = await rig.create({ sendAt: inHours(1), name: 'newer' });
    await campaignsOf(db).updateOne({ name: 'newer' }, { $set: { schemaVersion: 99 } });
    expect(await rig.scheduler.why(id)).toMatchObject({ code: 'newer_version' });
  });

  it('a campaign that does not exist, and a scheduler that was stopped', async () => {
    const rig = await startRig(uri, { worker: false });
    await expect(rig.scheduler.why('0'.repeat(24))).rejects.toMatchObject({ code: 'not_found' });
    await expect(rig.scheduler.why('x')).rejects.toMatchObject({ code: 'not_found' });
    await stopRig(rig);
    await expect(rig.scheduler.why('0'.repeat(24))).rejects.toMatchObject({ code: 'stopped' });
    const { campaigns } = rig.scheduler;
    const stopped = { code: 'stopped' };
    await expect(campaigns.list()).rejects.toMatchObject(stopped);
    await expect(campaigns.find('0'.repeat(24))).rejects.toMatchObject(stopped);
    await expect(campaigns.pause('0'.repeat(24))).rejects.toMatchObject(stopped);
    await expect(rig.create()).rejects.toMatchObject(stopped);
  });
});

describe('its audience', () => {
  it('a source that is being read, that failed (attempt, error, time of the next one), and that failed for good', async () => {
    const gate = door();
    const broken = async function* () {
      yield* people(2);
      await gate.opened;
      throw new Error('cursor lost');
    };
    const { rig, clock } = await startTimedRig(uri, { audiences: { broken } });
    const { id } = await rig.create({ audience: { source: 'broken' } });
    const reading = await reasonOf(rig, id, 'freezing');
    expect(reading).toMatchObject({ attempt: 1, source: 'broken', workerId: rig.scheduler.workerId });
    gate.open();
    for (const [index, pauseMs] of [5_000, 10_000, 20_000, 40_000].entries()) {
      const retried = { code: 'freezing_retry', attempt: index + 1 };
      let failed = {} as Extract<Why, { code: 'freezing_retry' }>;
      const read = async () => {
        failed = (await rig.scheduler.why(id)) as typeof failed;
        return failed;
      };
      await expect.poll(read, PATIENCE).toMatchObject(retried);
      expect(failed).toMatchObject({ attemptsLeft: 4 - index, lastError: 'cursor lost' });
      expect(failed.until.getTime()).toBeGreaterThan(failed.at.getTime());
      expect(failed.until.getTime() - failed.at.getTime()).toBeLessThanOrEqual(pauseMs);
      clock.advance(pauseMs);
    }
    await rig.until(id, 'failed');
    expect(await rig.scheduler.why(id)).toMatchObject({
      code: 'failed',
      by: 'scheduler',
      detail: 'cursor lost',
    });
    await rig.scheduler.campaigns.cancel(id);
  });

  it('no worker has the source, though a process without a worker has it', async () => {
    const api = await startRig(uri, { worker: false, audiences: { rows: () => people(3) } });
    await startRig(uri);
    const { id } = await api.create({ audience: { source: 'rows' } });
    expect(await reasonOf(api, id, 'no_worker_for_source')).toMatchObject({ source: 'rows' });
    await startRig(uri, { audiences: { rows: () => people(3) } });
    await api.until(id, 'completed');
    expect(await api.scheduler.why(id)).toMatchObject({ code: 'completed' });
  });
});

describe('while it is to send', () => {
  it('no worker has the messenger; the only one that has it is stopped', async () => {
    const others = await startRig(uri, { messengers: { fax: newProvider().messenger } });
    const api = await startRig(uri, { worker: false });
    const { id } = await api.create();
    expect(await reasonOf(api, id, 'no_worker_for_messenger')).toMatchObject({ messenger: 'post' });
    await stopRig(others);
    expect(await api.scheduler.why(id)).toMatchObject({ code: 'no_worker' });
    const having = await startRig(uri);
    await having.until(id, 'completed');
  });

  it('sending; a pause shows at once, although sends are in flight; then sending again', async () => {
    const rig = await startRig(uri);
    const gate = rig.provider.hold();
    const { id } = await rig.create({ audience: people(60), concurrency: 2 });
    await rig.provider.calls.next();
    const sending = await reasonOf(rig, id, 'sending');
    expect(sending).toMatchObject({ workers: [rig.scheduler.workerId], moving: true });
    await rig.scheduler.campaigns.pause(id);
    expect(await rig.scheduler.why(id)).toMatchObject({ code: 'paused', by: 'user' });
    await rig.scheduler.campaigns.resume(id);
    gate.open();
    await rig.until(id, 'completed');
  });

  it('only retries are left', async () => {
    const rig = await startRig(uri);
    rig.provider.plan((message) => {
      if (message.recipient.id === 'p1') throw new DeliveryError('transient', 'busy');
      return undefined;
    });
    const { id } = await rig.create({ audience: people(3), retry: { firstDelayMs: 3_600_000 } });
    const retry = await reasonOf(rig, id, 'retry_at');
    expect(retry).toMatchObject({ recipients: 1, moving: false });
    expect(retry.until.getTime()).toBeGreaterThan(retry.at.getTime() + 600_000);
    // What was counted a moment ago may be told once more.
    await expect
      .poll(() => rig.scheduler.overview(id), PATIENCE)
      .toMatchObject({
        status: 'processing',
        reason: { code: 'retry_at' },
        run: { occurrence: 'once', status: 'sending' },
        progress: { total: 3, sent: 2, retrying: 1 },
      });
    await rig.scheduler.campaigns.cancel(id);
    await reasonOf(rig, id, 'cancelled');
  });

  it('the messenger is sick', async () => {
    const rig = await startRig(uri, NO_BREAKER);
    let sick = true;
    rig.provider.plan(() => {
      if (sick) throw new DeliveryError('provider', 'no connection');
      return undefined;
    });
    const { id } = await rig.create({ audience: people(5) });
    const resting = await reasonOf(rig, id, 'messenger_resting');
    expect(resting).toMatchObject({ messenger: 'post', everywhere: false });
    sick = false;
    await rig.until(id, 'completed');
  });

  it('pages were put aside', async () => {
    const rig = await startRig(uri);
    const gate = rig.provider.hold();
    const { id } = await rig.create({ audience: people(20), concurrency: 1 });
    await rig.provider.calls.next();
    await rig.scheduler.campaigns.pause(id);
    gate.open();
    await expect.poll(() => pagesOf(db).countDocuments({ status: 'claimed' }), PATIENCE).toBe(0);
    await pagesOf(db).updateMany({ status: 'pending' }, { $set: { status: 'parked' } });
    await rig.scheduler.campaigns.resume(id);
    expect(await reasonOf(rig, id, 'parked')).toMatchObject({ pages: 2, moving: false });
    await rig.scheduler.campaigns.releaseParked(id);
    await rig.until(id, 'completed');
    expect(await rig.scheduler.why(id)).toMatchObject({ code: 'completed' });
  });

  it('it waits for its turn behind one of higher priority', async () => {
    const provider = newProvider({ concurrency: 1 });
    const rig = await startRig(uri, { provider });
    const gate = provider.hold();
    const first = await rig.create({ name: 'urgent', audience: people(60, 'u'), priority: 10 });
    await provider.calls.next();
    await expect.poll(() => pagesOf(db).countDocuments({ status: 'claimed' }), PATIENCE).toBe(2);
    const second = await rig.create({ name: 'later', audience: people(5, 'l') });
    const waiting = await reasonOf(rig, second.id, 'waiting_for_turn');
    expect(waiting.ahead).toEqual([{ id: first.id, name: 'urgent', priority: 10 }]);
    expect(waiting.message).toBe('It waits for its turn behind `urgent` of higher priority.');
    gate.open();
    await rig.until(second.id, 'completed');
    await rig.until(first.id, 'completed');
  });

  it('a worker was lost: its page is taken over, then what it had begun is settled', async () => {
    const api = await startRig(uri, { worker: false });
    const first = await startRig(uri, { messengers: { post: newProvider({ idempotent: true }).messenger } });
    const { id } = await first.create({ audience: people(3), draft: true });
    await stopRig(first);
    // What a crash leaves: an open run whose only page is held, with two recipients being handed over.
    const provider = newProvider({ idempotent: true });
    const rig = await startRig(uri, { provider });
    const gate = provider.hold();
    await api.scheduler.campaigns.schedule(id);
    await provider.calls.count(3);
    await api.scheduler.campaigns.pause(id);
    await expect.poll(() => pagesOf(db).countDocuments({ states: '>>>' }), PATIENCE).toBe(1);
    const page = await pagesOf(db).findOne();
    gate.open();
    await expect.poll(() => pagesOf(db).countDocuments({ status: 'done' }), PATIENCE).toBe(1);
    await stopRig(rig);
    const lost = { token: 'lost', seq: 3, workerId: 'lost', ttlMs: 5_000, sendTimeoutMs: 8_000 };
    await pagesOf(db).replaceOne({ _id: page?._id ?? '' }, { ...page, claim: lost } as never);
    await api.scheduler.campaigns.resume(id);
    const second = await startRig(uri, { messengers: { post: newProvider({ idempotent: true }).messenger } });
    expect(await reasonOf(api, id, 'taking_over')).toMatchObject({ workers: ['lost'], pages: 1 });
    const settling = await reasonOf(api, id, 'settling');
    expect(settling.atMostMs).toBeGreaterThanOrEqual(8_000);
    await second.until(id, 'completed');
  });
});

describe('limits', () => {
  it('its window is closed: when it opens', async () => {
    const rig = await startRig(uri);
    // A window of a minute that ended an hour ago, and so opens tomorrow.
    const at = new Date(Date.now() - 3_600_000);
    const clock = (ms: number): string => new Date(at.getTime() + ms).toISOString().slice(11, 16);
    const { id } = await rig.create({ window: { from: clock(0), to: clock(60_000), timezone: 'UTC' } });
    const { until } = await reasonOf(rig, id, 'window_closed');
    expect(until.toISOString().slice(11, 16)).toBe(clock(0));
    expect(until.getTime()).toBeGreaterThan(Date.now());
    expect(rig.provider.calls.all).toEqual([]);
    await rig.scheduler.campaigns.cancel(id);
  });

  it('the limit of a messenger that a worker no longer has is no reason', async () => {
    const provider = newProvider();
    const limited = { ...provider.messenger, rate: { perDay: 1 } };
    const before = await startRig(uri, { provider, messengers: { post: limited } });
    const { id } = await before.create({ audience: people(3) });
    expect(await reasonOf(before, id, 'rate')).toMatchObject({ scope: 'messenger', rate: { perDay: 1 } });
    await stopRig(before);
    const gate = provider.hold();
    const rig = await startRig(uri, { provider });
    await provider.calls.count(2);
    expect((await rig.scheduler.why(id)).code).toBe('sending');
    gate.open();
    await rig.until(id, 'completed');
  });

  it('its rate is used up: when the next token comes', async () => {
    const rig = await startRig(uri);
    const { id } = await rig.create({ rate: { perHour: 10 }, audience: people(3) });
    const why = await reasonOf(rig, id, 'rate');
    expect(why).toMatchObject({ scope: 'campaign', rate: { perHour: 10 } });
    const waitMs = why.until.getTime() - why.at.getTime();
    expect(waitMs).toBeGreaterThan(300_000);
    expect(waitMs).toBeLessThan(370_000);
    expect(rig.provider.calls.all.length).toBeLessThanOrEqual(1);
    await rig.scheduler.campaigns.cancel(id);
  });
});

it('what is done of a large campaign is known while it goes on', async () => {
  const rig = await startRig(uri, { pageSize: 10 });
  const gate = rig.provider.hold();
  const { id } = await rig.create({ audience: people(2_000), concurrency: 1 });
  await reasonOf(rig, id, 'sending');
  const overview = await rig.scheduler.overview(id);
  expect(overview.progress?.total).toBe(2_000);
  gate.open();
  await rig.scheduler.campaigns.cancel(id);
  await reasonOf(rig, id, 'cancelled');
});
