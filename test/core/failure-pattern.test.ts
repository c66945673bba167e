import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Failure, FailureGroups, MAX_GROUPS, normalizedReason } from '../../src/core/failure-pattern.ts';

describe('a reason without what differs', () => {
  it.each([
    [
      '550 5.1.1 <ann@example.org>: Recipient address rejected',
      '<n> <n> <address>: Recipient address rejected',
    ],
    ['User "Zoë Ann" not found', 'User <text> not found'],
    ["can't open 'x y' now", "can't open <text> now"],
    ['message 3f2504e0-4f89-11d3-9a0c-0305e82c3301 refused', 'message <id> refused'],
    ['queued as 4BqX9k2Zz1', 'queued as <id>'],
    ['connect ECONNREFUSED 10.0.0.1:25', 'connect ECONNREFUSED <ip>'],
    ['blocked [2001:db8:0:0:1:2:3:4] by policy', 'blocked <ip> by policy'],
    ['see https://example.org/a?b=1 for more', 'see <url> for more'],
    ['retry in 12.5 s after  3\ntries', 'retry in <n> s after <n> tries'],
    ['+491701234567 is no number', '<n> is no number'],
    ['no such user', 'no such user'],
    ['', ''],
  ])('%s', (reason, normalised) => {
    expect(normalizedReason(reason)).toBe(normalised);
  });

  it('twice is once, however odd the text; no number and no address is left, and it is bounded', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ unit: 'grapheme' }), fc.string(), fc.emailAddress(), fc.webUrl()),
        (text) => {
          const once = normalizedReason(text);
          expect(normalizedReason(once)).toBe(once);
          expect(once).not.toMatch(/\p{Nd}/u);
          expect(Buffer.byteLength(once)).toBeLessThanOrEqual(200);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('is the same whatever the number, the address or the id', () => {
    const template = (n: number, address: string, id: string): string =>
      `Message ${n} (id ${id}) to ${address} was refused: "${address}" is over its limit of ${n}`;
    const simpleAddress = fc.stringMatching(/^[a-z][a-z0-9.]{0,10}@[a-z]{1,10}\.[a-z]{2,3}$/);
    fc.assert(
      fc.property(fc.nat(), simpleAddress, fc.uuid(), (n, address, id) => {
        expect(normalizedReason(template(n, address, id))).toBe(
          'Message <n> (id <id>) to <address> was refused: <text> is over its limit of <n>',
        );
      }),
    );
  });

  it('a long text takes no time worth telling', () => {
    for (const part of ['a@', '"', "'x ", '1a-', 'a.b:', ':']) {
      expect(Buffer.byteLength(normalizedReason(part.repeat(50_000)))).toBeLessThanOrEqual(200);
    }
  });
});

describe('groups', () => {
  it('by state, code and pattern, the largest first', () => {
    const groups = new FailureGroups<number>(2);
    const add = (reason: string | undefined, at: number, state: Failure['state'] = 'failed', code = '550') =>
      groups.add({ state, code, reason, at }, at);
    add('mailbox 1 full', 30);
    add('mailbox 2 full', 10);
    add('mailbox 3 full', 20);
    add('mailbox 4 full', 5, 'unknown');
    add(undefined, 7);
    expect(groups.largest(10)).toEqual([
      {
        state: 'failed',
        code: '550',
        reason: 'mailbox <n> full',
        count: 3,
        firstAt: 10,
        lastAt: 30,
        samples: [
          { place: 30, reason: 'mailbox 1 full' },
          { place: 10, reason: 'mailbox 2 full' },
        ],
      },
      expect.objectContaining({ state: 'failed', reason: null, count: 1 }),
      expect.objectContaining({ state: 'unknown', reason: 'mailbox <n> full', count: 1 }),
    ]);
    expect(groups.largest(1)).toHaveLength(1);
    expect(groups.total).toBe(5);
  });

  it('are bounded, and nothing goes uncounted', () => {
    const words = (n: number): string => [...String(n)].map((digit) => 'abcdefghij'[Number(digit)]).join('');
    const groups = new FailureGroups<number>(0);
    for (let n = 0; n < 3 * MAX_GROUPS; n += 1) {
      groups.add({ state: 'failed', code: undefined, reason: `because of ${words(n)}`, at: n }, n);
    }
    const found = groups.largest(Number.POSITIVE_INFINITY);
    expect(found).toHaveLength(MAX_GROUPS);
    expect(groups.total).toBe(3 * MAX_GROUPS);
  });
});
