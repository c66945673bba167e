/** The writes of the breakers: who comes second matches nothing, and campaigns are made to match whatever came before. */
import { ObjectId } from 'mongodb';
import { afterAll, beforeEach, expect, it } from 'vitest';
import { DEFAULTS } from '../../src/config.ts';
import {
  type Breaker,
  closed,
  type Evidence,
  NEW_BREAKER,
  opened,
  openedByHand,
  probedBy,
} from '../../src/core/breaker.ts';
import { breakerOf } from '../../src/core/breaker-document.ts';
import {
  type RawBreaker,
  readBreakers,
  renewProbe,
  repairBreaker,
  turnBreaker,
  writeEvidence,
} from '../../src/store/breakers.ts';
import { heldByBreakers, pauseForBreaker, resumeForBreaker } from '../../src/store/campaign-transitions.ts';
import { openStore } from '../../src/store/store.ts';
import { testDatabase } from '../support/mongo.ts';

const { db, uri } = await testDatabase();
const store = await openStore({ mongo: uri, collectionPrefix: '', journalDays: 1 });
afterAll(() => store.close());
beforeEach(async () => {
  await Promise.all([db.collection('breakers').deleteMany({}), db.collection('campaigns').deleteMany({})]);
});

const now = Date.now();
const open = (from = NEW_BREAKER, detail = 'refused') => opened(from, detail, DEFAULTS.breaker, now, 0);
const stored = async (): Promise<Breaker | undefined> => {
  const read = (await readBreakers(store, ['mail'])).get('mail');
  return read && breakerOf(read.document, read.now);
};
const evidence = (failed: number): Evidence => ({
  at: now,
  succeeded: 0,
  failed,
  consecutive: failed,
  inRow: failed,
  rowSince: now,
});

it('two that open at once: one does, also where there was no document', async () => {
  const answers = await Promise.all(
    [1, 2, 3].map((n) => turnBreaker(store, 'mail', NEW_BREAKER, open(NEW_BREAKER, `by ${n}`))),
  );
  expect(answers.filter(Boolean)).toHaveLength(1);
  expect(await stored()).toMatchObject({ state: 'open', term: 1, detail: `by ${answers.indexOf(true) + 1}` });
});

it('of two probers one takes the probe; the other one, and one that slept, can neither renew nor decide', async () => {
  await turnBreaker(store, 'mail', NEW_BREAKER, open());
  const from = open();
  const [mine, other] = ['a', 'b'].map((token) => probedBy(from, { token, workerId: token }, now));
  if (mine === undefined || other === undefined) throw new Error('no probes');
  expect(await turnBreaker(store, 'mail', from, mine)).toBe(true);
  expect(await turnBreaker(store, 'mail', from, other)).toBe(false);
  expect(await renewProbe(store, 'mail', other, new Date(now + 60_000))).toBe(false);
  expect(await turnBreaker(store, 'mail', other, closed(other, now))).toBe(false);
  expect(await renewProbe(store, 'mail', mine, new Date(now + 60_000))).toBe(true);
  expect(await stored()).toMatchObject({ state: 'half_open', probe: { token: 'a', until: now + 60_000 } });

  // It sleeps, another one takes over: its verdict comes too late.
  const taken = probedBy(mine, { token: 'c', workerId: 'c' }, now + 70_000);
  expect(await turnBreaker(store, 'mail', mine, taken)).toBe(true);
  expect(await turnBreaker(store, 'mail', mine, closed(mine, now))).toBe(false);
  // A write whose answer was lost, and which is done again: nothing happens twice.
  expect(await turnBreaker(store, 'mail', taken, closed(taken, now))).toBe(true);
  expect(await turnBreaker(store, 'mail', taken, closed(taken, now))).toBe(false);
  expect(await stored()).toMatchObject({ state: 'closed', term: 4 });
});

it('a person’s word wins over what a worker is about to write', async () => {
  const byHand = openedByHand(NEW_BREAKER, { by: 'anna', at: now });
  expect(await turnBreaker(store, 'mail', NEW_BREAKER, byHand)).toBe(true);
  expect(await turnBreaker(store, 'mail', NEW_BREAKER, open())).toBe(false);
  expect(await stored()).toMatchObject({ state: 'open', manual: { by: 'anna' } });
});

it('evidence is added per worker, and says nothing after a transition', async () => {
  await Promise.all(['a', 'b'].map((id) => writeEvidence(store, 'mail', NEW_BREAKER, id, evidence(2), [])));
  await writeEvidence(store, 'mail', NEW_BREAKER, 'c', evidence(3), ['a']);
  const before = await stored();
  expect(before).toMatchObject({ state: 'closed', term: 0, evidence: { b: evidence(2), c: evidence(3) } });
  expect(Object.keys(before?.evidence ?? {})).toEqual(['b', 'c']);
  await turnBreaker(store, 'mail', NEW_BREAKER, closed(NEW_BREAKER, now));
  await writeEvidence(store, 'mail', NEW_BREAKER, 'a', evidence(9), []);
  expect(await stored()).toMatchObject({ term: 1, evidence: {} });
});

it('many workers that are the first to say something at the same moment are all heard', async () => {
  const ids = Array.from({ length: 12 }, (_, n) => `w${n}`);
  for (let round = 0; round < 10; round += 1) {
    await db.collection('breakers').deleteMany({});
    await Promise.all(ids.map((id) => writeEvidence(store, 'mail', NEW_BREAKER, id, evidence(2), [])));
    expect(Object.keys((await stored())?.evidence ?? {}).sort()).toEqual([...ids].sort());
  }
});

it.each<Record<string, unknown>>([
  { term: 'many', state: 'ajar' },
  { term: { $gt: 0 }, state: ['open'] },
  { state: 'open' },
  {},
])('nonsense is repaired once: %j', async (fields) => {
  await db.collection<{ _id: string }>('breakers').insertOne({ _id: 'mail', ...fields } as { _id: string });
  const document = { _id: 'mail', ...fields } as RawBreaker;
  const to = { ...NEW_BREAKER, term: 77 };
  expect(await repairBreaker(store, document, to)).toBe(true);
  expect(await repairBreaker(store, document, to)).toBe(false);
  expect(await stored()).toEqual(to);
});

it('campaigns follow: in progress is paused, exactly those go on, and whoever comes late is put right by the next', async () => {
  const campaign = (name: string, fields: Record<string, unknown>) => ({
    _id: new ObjectId(),
    name,
    status: 'processing',
    rev: 3,
    messenger: 'mail',
    openRuns: [{ runId: name, occurrence: 'once' }],
    schedule: { sendAt: null },
    schemaVersion: 1,
    ...fields,
  });
  const byAnna = { code: 'paused', by: 'anna', at: new Date(0) };
  const all = [
    campaign('going', {}),
    campaign('of another messenger', { messenger: 'sms' }),
    campaign('scheduled', { status: 'scheduled', openRuns: [] }),
    campaign('paused by a person', { status: 'paused', statusReason: byAnna }),
    campaign('of a newer version', { schemaVersion: 99 }),
  ];
  await db.collection('campaigns').insertMany(all);
  const statuses = async () =>
    Object.fromEntries(
      (await db.collection('campaigns').find().toArray()).map(({ name, status, rev }) => [
        name,
        `${status} ${rev}`,
      ]),
    );
  const untouched = {
    'of another messenger': 'processing 3',
    scheduled: 'scheduled 3',
    'paused by a person': 'paused 3',
    'of a newer version': 'processing 3',
  };

  const paused = await pauseForBreaker(store, 'mail', { detail: '$detail of a {server}' });
  expect(paused.map(({ name }) => name)).toEqual(['going']);
  expect(await pauseForBreaker(store, 'mail', { detail: 'again' })).toEqual([]);
  expect(await statuses()).toEqual({ going: 'paused 4', ...untouched });
  const statusReason = (await db.collection('campaigns').findOne({ name: 'going' }))?.statusReason;
  expect(statusReason).toEqual({
    code: 'breaker_open',
    messenger: 'mail',
    detail: '$detail of a {server}',
    by: 'breaker',
    at: expect.any(Date),
  });
  expect(await heldByBreakers(store)).toEqual(new Map([['mail', 1]]));

  await resumeForBreaker(store, 'mail');
  await pauseForBreaker(store, 'mail', { detail: 'by one that slept' }); // the next look of anybody finds it
  expect(await statuses()).toMatchObject({ going: 'paused 6' });
  expect((await resumeForBreaker(store, 'mail')).map(({ name }) => name)).toEqual(['going']);
  expect(await statuses()).toEqual({ going: 'processing 7', ...untouched });
  expect(await db.collection('campaigns').countDocuments({ statusReason: { $exists: true } })).toBe(1);
});

it('only what was changed is told of; what a person opens by hand says so, also where it was held already', async () => {
  const [kept, cancelled] = ['kept', 'cancelled'].map((name) => ({
    _id: new ObjectId(),
    name,
    status: 'processing',
    rev: 3,
    messenger: 'mail',
    openRuns: [{ runId: name, occurrence: 'once' }],
    schemaVersion: 1,
  }));
  await db.collection('campaigns').insertMany([kept, cancelled] as never);
  const campaigns = new Proxy(store.campaigns, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key, target);
      if (key !== 'updateMany') return typeof value === 'function' ? value.bind(target) : value;
      return async (...args: Parameters<typeof target.updateMany>) => {
        await target.updateOne({ name: 'cancelled' }, { $set: { status: 'cancelled', rev: 4 } });
        return target.updateMany(...args);
      };
    },
  });
  const told = await pauseForBreaker({ ...store, campaigns }, 'mail', { detail: 'refused' });
  expect(told.map(({ name }) => name)).toEqual(['kept']);

  const byAnna = { detail: 'they move house', openedBy: 'anna' };
  expect(await pauseForBreaker(store, 'mail', byAnna)).toHaveLength(1);
  expect(await pauseForBreaker(store, 'mail', byAnna)).toEqual([]);
  expect(await db.collection('campaigns').findOne({ name: 'kept' })).toMatchObject({
    status: 'paused',
    statusReason: { code: 'breaker_open', ...byAnna, by: 'breaker' },
    rev: 5,
  });
  expect((await resumeForBreaker(store, 'mail')).map(({ name }) => name)).toEqual(['kept']);
});

it('looking for campaigns that a breaker holds reads only those', async () => {
  await db.collection('campaigns').insertMany(
    Array.from({ length: 200 }, (_, n) => ({
      status: n % 2 === 0 ? 'paused' : 'processing',
      messenger: 'mail',
      statusReason: { code: 'paused', by: 'x' },
      openRuns: [],
    })),
  );
  const { executionStats } = await db
    .collection('campaigns')
    .find({ status: 'paused', 'statusReason.code': 'breaker_open', messenger: 'mail' })
    .explain('executionStats');
  expect(executionStats).toMatchObject({ totalDocsExamined: 0, totalKeysExamined: 0 });
});
