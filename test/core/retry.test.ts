/** What a failure means, and when it is tried again. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  classifyError,
  cutUtf8,
  describeError,
  type FailureKind,
  providerBackoffMs,
  retryAfterMsOf,
  retryDelayMs,
  roundUpDue,
} from '../../src/core/retry.ts';
import { DeliveryError } from '../../src/messengers/messenger.ts';

const withFields = (fields: object, message = 'failed') => Object.assign(new Error(message), fields);
const throwing = Object.defineProperty({}, 'code', {
  enumerable: true,
  get() {
    throw new Error('no');
  },
});
const ring: { cause?: unknown } = {};
ring.cause = ring;

describe('classifyError', () => {
  test.each<[unknown, FailureKind]>([
    [new DeliveryError('permanent', 'no such mailbox'), 'permanent'],
    [new DeliveryError('transient', 'full'), 'transient'],
    [new DeliveryError('provider', 'down'), 'provider'],
    [new DeliveryError('unknown', 'silence'), 'unknown'],
    [{ kind: 'permanent' }, 'permanent'],
    [{ kind: 'other' }, 'transient'],
    [{ kind: 'transient', code: 'ECONNREFUSED' }, 'transient'],
    ...[
      'ECONNREFUSED',
      'ENOTFOUND',
      'EAI_AGAIN',
      'EHOSTUNREACH',
      'ENETUNREACH',
      'UND_ERR_CONNECT_TIMEOUT',
      'EDNS',
    ].map((code): [unknown, FailureKind] => [withFields({ code }), 'provider']),
    ...[
      'ECONNRESET',
      'EPIPE',
      'ETIMEDOUT',
      'ESOCKET',
      'UND_ERR_SOCKET',
      'UND_ERR_HEADERS_TIMEOUT',
      'UND_ERR_BODY_TIMEOUT',
    ].map((code): [unknown, FailureKind] => [withFields({ code }), 'unknown']),
    [withFields({ code: 'ETIMEDOUT', syscall: 'connect' }), 'provider'],
    [withFields({ code: 'ESOCKET', syscall: 'connect' }), 'provider'],
    [withFields({ code: 'ECONNRESET', syscall: 'read' }), 'unknown'],
    [new DOMException('', 'AbortError'), 'unknown'],
    [new DOMException('', 'TimeoutError'), 'unknown'],
    [new TypeError('fetch failed', { cause: withFields({ code: 'ECONNREFUSED' }) }), 'provider'],
    [new TypeError('fetch failed', { cause: withFields({ code: 'UND_ERR_SOCKET' }) }), 'unknown'],
    [new Error('a', { cause: new Error('b', { cause: { status: 404 } }) }), 'permanent'],
    [{ status: 429 }, 'provider'],
    [{ statusCode: 503 }, 'provider'],
    [{ status: 408 }, 'transient'],
    [{ status: 500 }, 'transient'],
    [{ statusCode: 599 }, 'transient'],
    [{ status: 400 }, 'permanent'],
    [{ statusCode: 422 }, 'permanent'],
    [{ status: 600 }, 'transient'],
    [{ status: 302 }, 'transient'],
    [{ status: '404' }, 'transient'],
    [{ status: 'error', statusCode: 404 }, 'permanent'],
    [{ code: 'ECONNREFUSED', status: 404 }, 'provider'],
    [new Error('anything'), 'transient'],
    ['text', 'transient'],
    [null, 'transient'],
    [undefined, 'transient'],
    [throwing, 'transient'],
    [ring, 'transient'],
  ])('case %#', (error, kind) => {
    expect(classifyError(error)).toBe(kind);
  });

  test('there is an answer for anything that may be thrown', () => {
    const anything = fc.oneof(
      fc.anything(),
      fc.record({ kind: fc.anything(), code: fc.anything(), cause: fc.anything() }),
    );
    fc.assert(
      fc.property(anything, (error) => {
        expect(['permanent', 'transient', 'provider', 'unknown']).toContain(classifyError(error));
      }),
    );
  });
});

describe('retryDelayMs', () => {
  const delay = (attempt: number, random: number, more: object = {}) =>
    retryDelayMs({ attempt, firstDelayMs: 30_000, maxDelayMs: 3_600_000, random: () => random, ...more });

  test.each([
    [1, 0, 15_000],
    [1, 1, 30_000],
    [2, 0.5, 45_000],
    [3, 1, 120_000],
    [8, 1, 3_600_000],
    [50, 0, 1_800_000],
    [5_000, 1, 3_600_000],
  ])('attempt %i, random %d: %i', (attempt, random, expected) => {
    expect(delay(attempt, random)).toBe(expected);
  });

  test.each([
    [{ retryAfterMs: 1_000 }, 30_000],
    [{ retryAfterMs: 90_000.5 }, 90_001],
    [{ retryAfterMs: 7_200_000 }, 7_200_000],
    [{ retryAfterMs: 365 * 86_400_000 }, 86_400_000],
    [{ retryAfterMs: Number.POSITIVE_INFINITY }, 86_400_000],
    [{ retryAfterMs: Number.NaN }, 30_000],
    [{ retryAfterMs: -5 }, 30_000],
    [{ retryAfterMs: undefined }, 30_000],
    [
      { maxDelayMs: 200 * 3_600_000, firstDelayMs: 200 * 3_600_000, retryAfterMs: 201 * 3_600_000 },
      200 * 3_600_000,
    ],
  ])('what the provider named: %j', (more, expected) => {
    expect(delay(1, 1, more)).toBe(expected);
  });

  test('between half and all of the doubled delay, whole, and never shorter later', () => {
    const input = fc.record({
      attempt: fc.integer({ min: 1, max: 10_000 }),
      firstDelayMs: fc.integer({ min: 1, max: 86_400_000 }),
      maxDelayMs: fc.integer({ min: 1, max: 604_800_000 }),
      random: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(input, ({ random, ...rest }) => {
        const ms = retryDelayMs({ ...rest, random: () => random });
        const cap = Math.min(rest.maxDelayMs, rest.firstDelayMs * 2 ** Math.min(rest.attempt - 1, 100));
        expect(Number.isInteger(ms)).toBe(true);
        expect(ms).toBeGreaterThanOrEqual(Math.floor(cap / 2));
        expect(ms).toBeLessThanOrEqual(cap);
        const later = retryDelayMs({ ...rest, attempt: rest.attempt + 1, random: () => random });
        expect(later).toBeGreaterThanOrEqual(ms);
      }),
    );
  });
});

test('retryAfterMsOf reads what an error names', () => {
  expect(retryAfterMsOf(new DeliveryError('provider', 'x', { retryAfterMs: 5 }))).toBe(5);
  for (const error of [
    new Error('x'),
    null,
    { retryAfterMs: '5' },
    { retryAfterMs: -1 },
    { retryAfterMs: Number.NaN },
  ]) {
    expect(retryAfterMsOf(error)).toBeUndefined();
  }
});

test.each([
  [-1, 0],
  [0, 0],
  [1, 1_000],
  [2, 2_000],
  [6, 32_000],
  [7, 60_000],
  [100_000, 60_000],
])('providerBackoffMs(%i) is %i', (failures, ms) => {
  expect(providerBackoffMs(failures)).toBe(ms);
});

test('roundUpDue gives the next full step, at once where it is one', () => {
  expect([0, 1, 4_999, 5_000, 5_001].map((due) => roundUpDue(due, 5_000))).toEqual([
    0, 5_000, 5_000, 5_000, 10_000,
  ]);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4e12 }), fc.integer({ min: 1, max: 60_000 }), (due, step) => {
      const rounded = roundUpDue(due, step);
      expect(rounded % step).toBe(0);
      expect(rounded - due).toBeGreaterThanOrEqual(0);
      expect(rounded - due).toBeLessThan(step);
    }),
  );
});

describe('describeError', () => {
  test.each<[unknown, object]>([
    [new Error('no such mailbox'), { reason: 'no such mailbox' }],
    [withFields({ code: 'ECONNREFUSED' }, 'connect'), { code: 'ECONNREFUSED', reason: 'connect' }],
    [
      withFields({ responseCode: 550 }, '550\r\n no  such\nuser '),
      { code: '550', reason: '550 no such user' },
    ],
    [withFields({ status: 404 }), { code: '404', reason: 'failed' }],
    [new DOMException('took too long', 'TimeoutError'), { code: 'TimeoutError', reason: 'took too long' }],
    [
      new TypeError('fetch failed', { cause: withFields({ code: 'ENOTFOUND' }, 'getaddrinfo') }),
      { code: 'ENOTFOUND', reason: 'fetch failed: getaddrinfo' },
    ],
    [new Error('a: b', { cause: new Error('b') }), { reason: 'a: b' }],
    [new RangeError(''), { reason: 'RangeError' }],
    ['text', { reason: 'text' }],
    [7, { reason: '7' }],
    [null, { reason: 'null' }],
    [undefined, { reason: 'no reason given' }],
    [{}, { reason: 'no reason given' }],
    [throwing, { reason: 'no reason given' }],
    [
      new Error('cannot reach smtp://user:p@ss@mail:25/ now'),
      { reason: 'cannot reach smtp://***@mail:25/ now' },
    ],
  ])('case %#', (error, expected) => {
    expect(describeError(error)).toEqual(expected);
  });

  test('keeps the limits in bytes whatever is thrown', () => {
    const text = fc.string({ unit: 'binary', maxLength: 600 });
    fc.assert(
      fc.property(text, text, (code, message) => {
        const described = describeError(withFields({ code }, message));
        expect(Buffer.byteLength(described.code ?? '')).toBeLessThanOrEqual(64);
        expect(Buffer.byteLength(described.reason)).toBeLessThanOrEqual(256);
        expect(described.reason).not.toMatch(/[\r\n]/);
      }),
    );
  });
});

describe('cutUtf8', () => {
  test.each([
    ['abc', 3, 'abc'],
    ['abc', 2, 'ab'],
    ['aé', 2, 'a'],
    ['aé', 3, 'aé'],
    ['€€', 5, '€'],
    ['😀', 3, ''],
    ['a😀b', 5, 'a😀'],
    ['', 0, ''],
  ])('%s to %i bytes: %s', (text, bytes, expected) => {
    expect(cutUtf8(text, bytes)).toBe(expected);
  });

  test('gives the longest beginning of whole characters that fits', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme-composite', maxLength: 60 }),
        fc.integer({ min: 0, max: 80 }),
        (text, limit) => {
          const cut = cutUtf8(text, limit);
          expect(text.startsWith(cut)).toBe(true);
          expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(limit);
          const next = [...text.slice(cut.length)][0];
          if (next !== undefined) expect(Buffer.byteLength(cut + next)).toBeGreaterThan(limit);
        },
      ),
    );
  });
});
