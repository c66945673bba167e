/** Sources of audiences that throw, hang, answer nonsense or repeat themselves: nothing is lost and nobody is kept waiting. */
import { describe, expect, it } from 'vitest';
import type { AudienceSource } from '../../src/audience-input.ts';
import { door } from '../queue/signals.ts';
import { testDatabase } from '../support/mongo.ts';
import {
  campaignsOf,
  inHours,
  people,
  type Rig,
  runsOf,
  startRig,
  startTimedRig,
  stopRig,
  tidyUpAfterEach,
} from './fixtures.ts';
import { PATIENCE } from './provider.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const audiences = () => db.collection('audiences');
const fromSource = (rig: Rig, source: string, name = source) =>
  rig.create({ name, audience: { source }, sendAt: inHours(-1) });
const never: AudienceSource = () => new Promise(() => undefined);

describe('a source that throws', () => {
  it('is asked five times with growing pauses; then the campaign failed with the reason; resume begins anew', async () => {
    let fails = true;
    let reads = 0;
    const broken = async function* () {
      reads += 1;
      yield* people(25);
      if (fails) throw new Error('cursor lost, mongodb://ann:s3cret@db/app');
    };
    const { rig, clock } = await startTimedRig(uri, { audiences: { broken } });
    const failed = rig.signals('campaign:failed');
    const { id } = await fromSource(rig, 'broken');
    const failures = (count: number) =>
      expect.poll(() => audiences().countDocuments({ state: 'failed' }), PATIENCE).toBe(count);
    for (const [index, pauseMs] of [5_000, 10_000, 20_000, 40_000].entries()) {
      await failures(index + 1);
      expect(reads).toBe(index + 1);
      clock.advance(pauseMs);
    }
    await failures(5);
    const reason = { code: 'freezing_failed', detail: 'cursor lost, mongodb://***@db/app', by: 'scheduler' };
    expect(await failed.next()).toMatchObject({ campaign: { id }, reason });
    expect(await rig.until(id, 'failed')).toMatchObject({ statusReason: reason });
    expect(reads).toBe(5);
    expect(rig.provider.calls.all).toEqual([]);
    expect(JSON.stringify(rig.log)).not.toContain('s3cret');

    fails = false;
    await rig.scheduler.campaigns.resume(id);
    await rig.until(id, 'completed');
    expect(reads).toBe(6);
    expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ total: 25, sent: 25 });
  });

  it('counts only failures: attempts that ended with a stop of the worker do not', async () => {
    const gone: AudienceSource = () => Promise.reject(new Error('gone'));
    const first = await startRig(uri, { worker: false, audiences: { gone } });
    const { id } = await fromSource(first, 'gone');
    for (let attempt = 1; attempt <= 5; attempt += 1) {
      const rig = await startRig(uri, { audiences: { gone: never } });
      await expect.poll(() => audiences().countDocuments({ state: 'freezing' }), PATIENCE).toBe(1);
      await stopRig(rig);
      expect(await audiences().countDocuments({ state: 'dead' })).toBe(attempt);
    }
    const rig = await startRig(uri, { audiences: { gone } });
    await expect.poll(() => audiences().countDocuments({ state: 'failed' }), PATIENCE).toBe(1);
    // The next look decides: it must wait for another try instead of giving up.
    const other = await rig.create({ audience: people(1) });
    await rig.until(other.id, 'completed');
    expect((await rig.scheduler.campaigns.find(id))?.status).toBe('processing');
    await rig.scheduler.campaigns.cancel(id);
  });
});

describe('a source that answers nonsense', () => {
  it.each<[string, unknown, string]>([
    ['nothing', undefined, 'returned undefined instead of an iterable'],
    ['a number', 42, 'returned number instead of an iterable'],
    ['text', 'everybody', 'returned string instead of an iterable'],
    ['an object', { rows: [] }, 'returned object instead of an iterable'],
  ])('%s: the attempt failed and says so', async (_what, answer, error) => {
    const odd = (() => answer) as AudienceSource;
    const rig = await startRig(uri, { audiences: { odd } });
    const { id } = await fromSource(rig, 'odd');
    await expect.poll(() => audiences().countDocuments({ state: 'failed' }), PATIENCE).toBe(1);
    expect((await audiences().findOne())?.error).toContain(error);
    await rig.scheduler.campaigns.cancel(id);
  });

  it('rows that are none: they are counted, the first hundred are kept in the journal, the campaign completes', async () => {
    const odd = (() =>
      Array.from({ length: 150 }, (_, index) => ({ id: index }))) as unknown as AudienceSource;
    const rig = await startRig(uri, { audiences: { odd } });
    const { id } = await fromSource(rig, 'odd');
    await rig.until(id, 'completed');
    expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ total: 0, sent: 0, rejected: 150 });
    const frozen = (await rig.scheduler.campaigns.journal(id)).find(({ kind }) => kind === 'audience-frozen');
    expect(frozen?.detail).toMatchObject({ recipients: 0, rejected: 150 });
    const rejections = frozen?.detail?.rejections as { row: number; reason: string }[];
    expect(rejections).toHaveLength(100);
    expect(rejections[99]).toEqual({ row: 99, reason: 'no to' });
  });

  it('the same for a list given to create()', async () => {
    const rig = await startRig(uri, { worker: false });
    const rows = Array.from({ length: 150 }, (_, index) => ({ id: '', to: `x${index}` }));
    const { id } = await rig.create({ audience: rows, sendAt: inHours(1) });
    const created = (await rig.scheduler.campaigns.journal(id)).find(({ kind }) => kind === 'created');
    expect(created?.detail).toMatchObject({ recipients: 0, rejected: 150 });
    expect(created?.detail?.rejections).toHaveLength(100);
  });
});

describe('a source that hangs', () => {
  it('keeps nobody else waiting, and gives its place back when the campaign is cancelled', async () => {
    const seen: AbortSignal[] = [];
    const hanging: AudienceSource = (_params, { signal }) => {
      seen.push(signal);
      return new Promise(() => undefined);
    };
    const rig = await startRig(uri, { audiences: { hanging, good: () => people(5) } });
    const stuck = [await fromSource(rig, 'hanging', 'one'), await fromSource(rig, 'hanging', 'two')];
    await expect.poll(() => seen.length, PATIENCE).toBe(2);
    const listed = await rig.create({ name: 'list', audience: people(3) });
    await rig.until(listed.id, 'completed');
    const waiting = await fromSource(rig, 'good');
    await rig.scheduler.campaigns.cancel(stuck[0]?.id ?? '');
    await rig.until(waiting.id, 'completed');
    expect(seen.map(({ aborted }) => aborted).sort()).toEqual([false, true]);
    await stopRig(rig); // does not wait for the other
    expect(seen.every(({ aborted }) => aborted)).toBe(true);
    expect(await campaignsOf(db).countDocuments({ status: 'processing' })).toBe(1);
  });

  it('half-way: after a restart another worker reads from the start, and only what it reads counts', async () => {
    const reached = door();
    const half = async function* () {
      yield* people(35);
      reached.open();
      await new Promise(() => undefined);
    };
    const first = await startRig(uri, { audiences: { rows: half } });
    const { id } = await fromSource(first, 'rows');
    await reached.opened;
    await stopRig(first);
    const second = await startRig(uri, { audiences: { rows: () => people(20, 'q') } });
    await second.until(id, 'completed');
    expect(second.provider.left.every((who) => who.startsWith('q'))).toBe(true);
    expect((await runsOf(db).findOne())?.report).toMatchObject({ total: 20, sent: 20 });
  });
});

it('a source that no worker has yet waits for one', async () => {
  const without = await startRig(uri);
  const api = await startRig(uri, { worker: false, audiences: { rows: () => [] } });
  const { id } = await fromSource(api, 'rows');
  await expect.poll(() => runsOf(db).countDocuments({ status: 'freezing' }), PATIENCE).toBe(1);
  const having = await startRig(uri, { audiences: { rows: () => people(7) } });
  await having.until(id, 'completed');
  expect(without.provider.left.length + having.provider.left.length).toBe(7);
});
