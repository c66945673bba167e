/** The input of create(): defaults, times, audiences, every problem at once. */
import { Types } from 'mongoose';
import { describe, expect, test } from 'vitest';
import { type CampaignContext, type CampaignInput, parseCampaign } from '../src/campaign-input.ts';
import { ValidationError } from '../src/errors.ts';

const NOW = new Date('2026-03-01T08:00:00Z');
const CONTEXT: CampaignContext = {
  now: NOW,
  messengers: {
    email: {},
    sms: { idempotent: true },
    push: { idempotent: { windowMs: 1 }, reconcile: async () => [] },
  },
  sources: ['customers', 'newsletter'],
};
const VALID = {
  name: 'Spring',
  messenger: 'email',
  content: { text: 'Hi' },
  audience: [{ id: 1, to: 'a@b' }],
};

const parse = (input: object, context = CONTEXT) =>
  parseCampaign({ ...VALID, ...input } as CampaignInput, context);

function problemsOf(input: unknown): Record<string, string> {
  try {
    parseCampaign(input as CampaignInput, CONTEXT);
  } catch (error) {
    expect(error).toBeInstanceOf(ValidationError);
    expect(error).toMatchObject({ code: 'invalid_campaign' });
    return Object.fromEntries(
      (error as ValidationError).problems.map(({ path, message }) => [path, message]),
    );
  }
  return {};
}
const problemOf = (input: object, path: string) => problemsOf({ ...VALID, ...input })[path];

describe('what is filled in', () => {
  test('every default', () => {
    expect(parse({})).toEqual({
      name: 'Spring',
      messenger: 'email',
      content: { text: 'Hi' },
      audience: { kind: 'rows', rows: VALID.audience },
      sendAt: NOW,
      draft: false,
      limits: {
        concurrency: 10,
        retry: { maxAttempts: 5, firstDelayMs: 30_000, maxDelayMs: 3_600_000 },
        onUnknown: 'hold',
      },
      pauseOnFailure: false,
      priority: 0,
    });
  });

  test('a draft has no time unless it is given one', () => {
    expect(parse({ draft: true }).sendAt).toBeNull();
    expect(parse({ draft: true, sendAt: NOW }).sendAt).toEqual(NOW);
  });

  test.each([
    ['email', 'hold'],
    ['sms', 'resend'],
    ['push', 'resend'],
    ['of-another-worker', 'hold'],
    ['constructor', 'hold'],
  ])('onUnknown of %s: %s', (messenger, onUnknown) => {
    expect(parse({ messenger }).limits.onUnknown).toBe(onUnknown);
  });

  test('a first delay beyond the longest one by default lengthens it', () => {
    expect(parse({ retry: { firstDelayMs: 7_200_000 } }).limits.retry.maxDelayMs).toBe(7_200_000);
  });

  test('content, params and metadata are copies, the audience is not', () => {
    const content = { parts: [{ text: 'Hi' }] };
    const params = { list: new Types.ObjectId(), since: NOW };
    const parsed = parse({ content, audience: { source: 'customers', params }, metadata: { team: ['a'] } });
    content.parts[0]!.text = 'changed';
    expect(parsed.content).toEqual({ parts: [{ text: 'Hi' }] });
    expect(parsed.audience).toEqual({ kind: 'source', source: 'customers', params });
    expect(parsed.metadata).toEqual({ team: ['a'] });
    const rows = (async function* () {
      yield { id: 1, to: 'x' };
    })();
    expect(parse({ audience: rows }).audience).toEqual({ kind: 'rows', rows });
  });
});

test('sendAt: a past one is allowed, a bad one is one problem among others, the result is a copy', () => {
  const sendAt = new Date('1999-01-01T00:00:00Z');
  expect(parse({ sendAt }).sendAt).toEqual(sendAt);
  expect(parse({ sendAt }).sendAt).not.toBe(sendAt);
  expect(problemOf({ sendAt: '2026-03-01T09:00' }, 'sendAt')).toContain('without an offset');
});

describe('audience', () => {
  test.each<[string, unknown, string, string]>([
    ['a text', 'customers', 'audience', 'Expected `audience` to be a list, an iterable'],
    ['nothing', undefined, 'audience', 'got nothing'],
    ['an empty object', {}, 'audience', 'got an object'],
    [
      'a source without a name',
      { source: '' },
      'audience',
      'Expected `audience.source` to be the name of a source',
    ],
    ['a key too many', { source: 'customers', param: 1 }, 'audience', 'Did you mean `params`?'],
    [
      'params with a function',
      { source: 'customers', params: { a: [() => 1] } },
      'audience',
      'audience.params.a.0 is a function',
    ],
    [
      'params too large',
      { source: 'customers', params: 'x'.repeat(70_000) },
      'audience',
      'larger than 65,536 bytes',
    ],
    [
      'an unknown source',
      { source: 'customer' },
      'audience.source',
      'Unknown source `customer`. Did you mean `customers`?',
    ],
    ['a strange source', { source: 'zzz' }, 'audience.source', 'Known sources: `customers`, `newsletter`.'],
    ['an inherited source', { source: 'constructor' }, 'audience.source', 'Unknown source'],
  ])('%s is refused', (_name, audience, path, message) => {
    expect(problemOf({ audience }, path)).toContain(message);
  });

  test('an iterable is not read', () => {
    const rows = {
      [Symbol.iterator](): Iterator<never> {
        throw new Error('read');
      },
    };
    const { audience } = parse({ audience: rows });
    expect(audience.kind === 'rows' && audience.rows === rows).toBe(true);
  });
});

describe('what is refused', () => {
  test('all problems at once', () => {
    const problems = problemsOf({
      name: ' ',
      messenger: 7,
      content: [],
      audience: { source: 'newsletters' },
      sendAt: '2026-03-01T09:00',
      concurrency: 0,
      retry: { maxAttempts: 51, firstDelay: 1 },
      onUnknown: 'maybe',
      priority: 101,
      metadata: 'x',
      draft: 1,
      rate: { perSecond: 0 },
      window: { from: '9', to: '18:00', timezone: 'Europe/Paris' },
      recurrence: { cron: '* * * *' },
      priorty: 1,
    });
    expect(problems).toMatchObject({
      name: 'Expected `name` to be text of 1 to 200 characters, got ` ` (string)',
      messenger: 'Expected `messenger` to be the name of a messenger, got `7` (number)',
      content: 'Expected `content` to be a plain object, got an empty array',
      concurrency: 'Expected `concurrency` to be an integer from 1 to 1000, got `0` (number)',
      'retry.maxAttempts': 'Expected `retry.maxAttempts` to be an integer from 1 to 50, got `51` (number)',
      'retry.firstDelay': 'Unknown key `retry.firstDelay`. Did you mean `firstDelayMs`?',
      onUnknown: 'Expected `onUnknown` to be one of hold, resend, reconcile, give-up, got `maybe` (string)',
      priority: 'Expected `priority` to be an integer from -100 to 100, got `101` (number)',
      metadata: 'Expected `metadata` to be a plain object, got `x` (string)',
      draft: 'Expected `draft` to be true or false, got `1` (number)',
      'rate.perSecond': 'Expected `rate.perSecond` to be a positive number, got `0` (number)',
      'window.from': expect.stringContaining('Expected `window.from` to be'),
      'recurrence.cron': expect.stringContaining('Expected `recurrence.cron` to be'),
      priorty: 'Unknown key `priorty`. Did you mean `priority`?',
    });
    expect(Object.keys(problems).sort()).toEqual(
      [
        'audience.source',
        'concurrency',
        'content',
        'draft',
        'messenger',
        'metadata',
        'name',
        'onUnknown',
        'priority',
        'priorty',
        'rate.perSecond',
        'recurrence.cron',
        'retry.firstDelay',
        'retry.maxAttempts',
        'sendAt',
        'window.from',
      ].sort(),
    );
  });

  test.each([[null], [undefined], ['x'], [[]]])('%j instead of a campaign', (input) => {
    expect(problemsOf(input)).toEqual({ '(input)': 'Expected a campaign to be an object with named values' });
  });

  test('a time to start beside a rule, and a pause on failure without one', () => {
    const recurrence = { daily: { at: '09:00' } };
    expect(problemOf({ recurrence, sendAt: '2026-03-01T09:00:00Z' }, 'sendAt')).toContain('got both');
    expect(problemOf({ pauseOnFailure: true }, 'pauseOnFailure')).toContain('together with `recurrence`');
  });

  test.each<[string, () => object, string]>([
    ['a function', () => ({ a: { b: () => 1 } }), 'content.a.b is a function'],
    ['a Map', () => ({ a: new Map() }), 'content.a is a Map'],
    ['a Buffer', () => ({ a: Buffer.from('x') }), 'content.a is a Buffer'],
    ['an invalid date', () => ({ a: [new Date('x')] }), 'content.a.0 is an invalid Date'],
    [
      'itself',
      () => {
        const a: Record<string, unknown> = {};
        a.a = a;
        a.b = a;
        return a;
      },
      'contains itself',
    ],
    ['1 MB of text', () => ({ text: 'x'.repeat(1_000_000) }), 'content is larger than 1,000,000 bytes'],
    ['1 MB in UTF-8', () => ({ text: 'é'.repeat(500_000) }), 'content is larger than 1,000,000 bytes'],
  ])('content that holds %s', (_name, content, message) => {
    expect(problemOf({ content: content() }, 'content')).toContain(message);
  });

  test('content of exactly 1 MB is taken', () => {
    const frame = JSON.stringify({ text: '' }).length;
    expect(problemOf({ content: { text: 'x'.repeat(1_000_000 - frame) } }, 'content')).toBeUndefined();
    expect(problemOf({ content: { text: 'x'.repeat(1_000_001 - frame) } }, 'content')).toBeDefined();
  });

  test('a longest delay below the first one', () => {
    expect(problemOf({ retry: { maxDelayMs: 1_000 } }, 'retry.maxDelayMs')).toBe(
      'Expected `retry.maxDelayMs` to be at least `firstDelayMs`, 30000, got `1000` (number)',
    );
  });

  test('reconcile with a messenger that cannot', () => {
    expect(problemOf({ onUnknown: 'reconcile' }, 'onUnknown')).toContain('`email` to have `reconcile`');
    expect(problemOf({ onUnknown: 'reconcile', messenger: 'push' }, 'onUnknown')).toBeUndefined();
    expect(problemOf({ onUnknown: 'reconcile', messenger: 'elsewhere' }, 'onUnknown')).toBeUndefined();
  });
});
