/**
 * A flush that waits in the network while its holder repeats it and goes on, and arrives after newer ones of the same
 * claim: it changes nothing. The server's own profile shows its arrival, so nothing here is a guess about time.
 */
import type { Document } from 'mongodb';
import { describe, expect, inject, it, onTestFinished } from 'vitest';
import { testDatabase } from '../support/mongo.ts';
import { type Hold, type MongoProxy, startProxy } from '../support/proxy.ts';
import { crew, tell, troubles } from './crew.ts';
import { pagesOf, people, testScheduler, until, untilClosed } from './fixtures.ts';
import { declaredProviders } from './providers.ts';

const { db, uri, name } = await testDatabase();
const { start, taken, untilTaken } = crew(uri);
const CONCURRENCY = 2;
/** A holder that gives up on an answer after a while, long before anybody doubts its claim. */
const HOLDER = {
  socketTimeoutMs: 5_000,
  options: { pageSize: 10, claimTtlMs: 60_000, claimMarginMs: 2_000, sendTimeoutMs: 120_000 },
};

/** Holds back the first matching message only: its repetition gets through. */
function holdFirst(proxy: MongoProxy, matches: (command: Document) => boolean): Hold {
  let first = true;
  return proxy.hold((command) => {
    if (!first || !matches(command)) return false;
    first = false;
    return true;
  });
}

const recordsOutcome = ({ update, updates }: Document): boolean =>
  update === 'ledger_pages' && /s/.test(updates[0].u.$set?.states ?? '');

async function campaignOf(count: number) {
  const api = await testScheduler({ mongo: uri, worker: false, messengers: declaredProviders() });
  const { id } = await api.campaigns.create({
    name: 'delayed',
    messenger: 'gated',
    content: {},
    audience: people(count),
    concurrency: CONCURRENCY,
    onUnknown: 'hold',
  });
  return { api, id };
}

/** Lets the held flush go, and waits until the server has refused it: an update of the page that matched nothing. */
async function arrival(flush: Hold): Promise<void> {
  await db.command({ profile: 2 });
  flush.release();
  const refused = {
    ns: `${name}.ledger_pages`,
    op: 'update',
    'command.u.$set.states': { $exists: true },
    nMatched: 0,
  };
  const profile = db.collection('system.profile', { readConcern: { level: 'local' } });
  await until('the late flush', async () => (await profile.countDocuments(refused)) > 0);
  await db.command({ profile: 0 });
  await profile.drop();
}

describe('a flush that its holder has repeated', () => {
  it('arrives after newer ones of the same claim', async () => {
    const proxy = await startProxy(inject('mongoUri'));
    onTestFinished(() => proxy.stop());
    const { api, id } = await campaignOf(10);
    const worker = await start({ ...HOLDER, uri: `${proxy.uriFor(name)}&retryWrites=false` });
    await untilTaken(id, 2);
    const older = holdFirst(proxy, recordsOutcome);
    tell(worker, { kind: 'open', count: 1 });
    await older.reached();
    tell(worker, { kind: 'open', count: 3 });
    // And the intents that four outcomes leave room for: from then on nothing is news.
    await until('newer flushes', async () => {
      const { sent, sending } = (await pagesOf(db, id))[0]?.counts ?? {};
      return sent === 4 && sending === 2 * CONCURRENCY;
    });
    const [before] = await pagesOf(db, id);
    expect(before).toMatchObject({ status: 'claimed' });
    await arrival(older);
    const [after] = await pagesOf(db, id);
    expect(after?.claim.token).toBe(before?.claim.token);
    expect(after?.claim.seq).toBeGreaterThanOrEqual(before?.claim.seq);
    expect(after?.states).toBe(before?.states);
    expect(after?.attempts).toEqual(before?.attempts);

    tell(worker, { kind: 'open', count: 100 });
    await untilClosed(api, db, id);
    expect(await api.campaigns.report(id)).toMatchObject({ sent: 10, unknown: 0 });
    expect(await api.campaigns.audit(id)).toMatchObject({ ok: true });
    expect(taken(id)).toHaveLength(10);
    expect(troubles(worker)).toEqual([]);
  });

  it('was repeated by the driver itself: the same', async () => {
    const proxy = await startProxy(inject('mongoUri'));
    onTestFinished(() => proxy.stop());
    const { api, id } = await campaignOf(10);
    const worker = await start({ ...HOLDER, uri: proxy.uriFor(name) });
    await untilTaken(id, 2);
    const older = holdFirst(proxy, recordsOutcome);
    tell(worker, { kind: 'open', count: 1 });
    await older.reached();
    tell(worker, { kind: 'open', count: 100 });
    await untilClosed(api, db, id);
    const before = await pagesOf(db, id);
    older.release();
    await worker.kill();
    await until('the end of its connections', () => proxy.connections() === 0);
    expect(await pagesOf(db, id)).toEqual(before);
    expect(await api.campaigns.report(id)).toMatchObject({ sent: 10, unknown: 0 });
    expect(taken(id)).toHaveLength(10);
  });
});

it('a flush of a dead holder arrives after the page was taken over', async () => {
  const proxy = await startProxy(inject('mongoUri'));
  onTestFinished(() => proxy.stop());
  const { api, id } = await campaignOf(10);
  const dead = await start({ uri: proxy.uriFor(name), options: { pageSize: 10, sendTimeoutMs: 120_000 } });
  await untilTaken(id, 2);
  const flush = holdFirst(proxy, recordsOutcome);
  tell(dead, { kind: 'open', count: 1 });
  await flush.reached();
  await dead.kill();
  const begun = taken(id, dead).length;

  const other = await start({ options: { pageSize: 10, sendTimeoutMs: 120_000 } });
  await untilTaken(id, 2, other);
  const [before] = await pagesOf(db, id);
  await arrival(flush);
  const [after] = await pagesOf(db, id);
  expect(after?.claim.token).toBe(before?.claim.token);
  expect(after?.states).toBe(before?.states);
  tell(other, { kind: 'open', count: 100 });
  await untilClosed(api, db, id);
  const report = await api.campaigns.report(id);
  expect(report?.unknown).toBeGreaterThanOrEqual(begun);
  expect(report?.unknown).toBeLessThanOrEqual(4);
  expect(report?.sent).toBe(taken(id, other).length);
  expect(await api.campaigns.audit(id)).toMatchObject({ ok: true });
  expect(new Set(taken(id).map(({ recipientId }) => recipientId)).size).toBe(taken(id).length);
});
