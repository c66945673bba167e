/** Bad input and bad company: each gets a clear error, and nothing is lost or left behind. */
import { afterEach, describe, expect, test } from 'vitest';
import { lineLogger, smtpMessenger } from '../../src/index.ts';
import { sweep } from '../../src/services/sweeper.ts';
import { openStore } from '../../src/store/store.ts';
import { testDatabase } from '../support/mongo.ts';
import { people, startRig, stopAll } from './fixtures.ts';
import { newProvider } from './provider.ts';

const { uri, db } = await testDatabase();
afterEach(stopAll);
const dry = { send: async () => ({ status: 'sent' as const }) };

describe('create() refuses', () => {
  const refused = async (input: object): Promise<{ code: string; message: string }> => {
    const { scheduler } = await startRig(uri, {
      worker: false,
      messengers: { post: dry, email: smtpMessenger({ url: 'smtp://127.0.0.1:1', from: 'a@example.org' }) },
      audiences: { customers: () => [] },
    });
    const before = await db.collection('campaigns').countDocuments();
    const good = { name: 'x', messenger: 'post', content: {}, audience: people(1) };
    const error = await scheduler.campaigns
      .create({ ...good, ...input } as never)
      .catch((thrown: unknown) => thrown);
    expect(await db.collection('campaigns').countDocuments()).toBe(before);
    return error as { code: string; message: string };
  };
  test.each([
    ['an unknown messenger', { messenger: 'emial' }, 'unknown_messenger', /Did you mean `email`/],
    [
      'an unknown source',
      { audience: { source: 'custmers' } },
      'invalid_campaign',
      /Did you mean `customers`/,
    ],
    ['a time without an offset', { sendAt: '2026-03-01T09:00:00' }, 'invalid_campaign', /offset/],
    ['a date that is none', { sendAt: new Date(Number.NaN) }, 'invalid_campaign', /sendAt/],
    [
      'a template that does not parse',
      { messenger: 'email', content: { subject: 'Hi {{ name', text: 'x' } },
      'invalid_content',
      /subject/,
    ],
    ['content over 1 MB', { content: { text: 'x'.repeat(1_000_001) } }, 'invalid_campaign', /content/],
    [
      'every wrong field at once',
      { name: '', concurrency: 0, retyr: {} },
      'invalid_campaign',
      /name[\s\S]*concurrency[\s\S]*retyr|retyr[\s\S]*/,
    ],
  ])('%s', async (_what, input, code, text) => {
    const error = await refused(input);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(text);
  });

  test('a list that ends in an error half-way: nothing is visible, and the half is swept', async () => {
    const error = await refused({
      audience: (async function* () {
        yield* people(600);
        throw new Error('cursor lost');
      })(),
    });
    expect(error).toMatchObject({ code: 'audience_failed' });
    expect(error.message).toContain('cursor lost');
    const store = await openStore({ mongo: uri, collectionPrefix: '', journalDays: 90 });
    const silent = lineLogger({ level: 'silent' });
    const ages = { silentMs: 0, unnamedMs: 0, graceMs: 0 };
    await sweep(store, silent, ages);
    await sweep(store, silent, ages);
    expect(await db.collection('audience_pages').countDocuments()).toBe(0);
    expect(await db.collection('audiences').countDocuments()).toBe(0);
    await store.close();
  });
});

describe('an audience', () => {
  test('with duplicates within and across pages, and rows that are none, is counted right', async () => {
    const rig = await startRig(uri, {});
    const rows = [
      ...people(400),
      ...people(400),
      ...people(30, 'new'),
      { id: '', to: 'x' },
      { id: 'a' },
      null,
    ];
    const { id } = await rig.create({ audience: rows as never });
    await rig.until(id, 'completed');
    expect(await rig.scheduler.campaigns.report(id)).toMatchObject({
      total: 430,
      sent: 430,
      duplicates: 400,
      rejected: 3,
    });
    rig.provider.expectNobodyTwice();
    const created = (await rig.scheduler.campaigns.journal(id)).find(({ kind }) => kind === 'created');
    expect(created?.detail?.rejections).toHaveLength(3);
  });

  test.each([0, 1])('of %i is completed', async (count) => {
    const rig = await startRig(uri, {});
    const { id } = await rig.create({ audience: people(count) });
    await rig.until(id, 'completed');
    expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ total: count, sent: count });
  });

  test('whose source throws half-way is read again from the start, and nobody is sent to twice', async () => {
    let reads = 0;
    const rows = async function* () {
      reads += 1;
      yield* people(45);
      if (reads === 1) throw new Error('cursor lost');
    };
    const rig = await startRig(uri, { audiences: { rows } });
    const { id } = await rig.create({ audience: { source: 'rows' } });
    await rig.until(id, 'completed');
    expect(reads).toBe(2);
    expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ total: 45, sent: 45 });
    rig.provider.expectNobodyTwice();
  });
});

describe('a messenger', () => {
  const outcome = async (plan: Parameters<ReturnType<typeof newProvider>['plan']>[0], more: object = {}) => {
    const provider = newProvider();
    provider.plan(plan);
    const rig = await startRig(uri, { provider, sendTimeoutMs: 300 });
    const retry = { maxAttempts: 1 };
    const { id } = await rig.create({ audience: people(1), retry, onUnknown: 'hold', ...more });
    await rig.until(id, 'completed');
    return rig.scheduler.campaigns.findDelivery(id, 'p0');
  };
  const never = () => new Promise(() => undefined);
  test.each([
    ['throws', () => Promise.reject(new Error('boom')), { state: 'failed', reason: 'boom' }],
    [
      'throws at once',
      () => {
        throw new Error('bang');
      },
      { state: 'failed', reason: 'bang' },
    ],
    ['throws null', () => Promise.reject(null), { state: 'failed' }],
    [
      'refuses for good',
      () => ({ status: 'failed', permanent: true, reason: 'no such user' }),
      { state: 'failed', reason: 'no such user' },
    ],
    ['skips', () => ({ status: 'skipped', reason: 'opted out' }), { state: 'skipped', reason: 'opted out' }],
    ['answers nonsense', () => ({ status: 'yes' }), { state: 'unknown', code: 'invalid_answer' }],
    ['answers nothing', () => null, { state: 'unknown', code: 'invalid_answer' }],
    ['hangs and ignores its signal', never, { state: 'unknown', code: 'timeout' }],
  ])('that %s', async (_what, plan, expected) => {
    expect(await outcome(plan as never)).toMatchObject({ ...expected, attempts: 1 });
  });

  test('whose time-outs are given up counts them as failed', async () => {
    expect(await outcome(never, { onUnknown: 'give-up' })).toMatchObject({
      state: 'failed',
      code: 'gave_up',
    });
  });
});
