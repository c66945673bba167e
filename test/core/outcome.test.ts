/** What one answer makes of a recipient. */
import { describe, expect, it } from 'vitest';
import { LedgerPage } from '../../src/core/ledger-page.ts';
import {
  type OutcomeRules,
  recordOutcome,
  type SendOutcome,
  withdrawIntent,
} from '../../src/core/outcome.ts';

const RULES: OutcomeRules = {
  retry: { maxAttempts: 2, firstDelayMs: 1_000, maxDelayMs: 8_000 },
  onUnknown: 'hold',
  token: 't',
  othersSucceeded: false,
  restMs: 0,
  random: () => 0.5,
};

function begun(attempts = 1): LedgerPage {
  const page = new LedgerPage(1);
  for (let attempt = 1; attempt < attempts; attempt += 1) {
    page.begin(0, 0);
    page.set(0, 'retrying', 0);
  }
  page.begin(0, 0);
  return page;
}

describe('an answer', () => {
  it.each<[string, SendOutcome, number, string, object | undefined]>([
    ['sent', { kind: 'sent', providerId: 'p' }, 1, 'sent', { providerId: 'p' }],
    ['sent, nothing to tell', { kind: 'sent' }, 1, 'sent', undefined],
    ['skipped', { kind: 'skipped', reason: 'r' }, 1, 'skipped', { reason: 'r' }],
    ['permanent', { kind: 'permanent', code: 'c', reason: 'r' }, 1, 'failed', { code: 'c', reason: 'r' }],
    ['transient', { kind: 'transient', reason: 'r' }, 1, 'retrying', { reason: 'r' }],
    ['transient, the last attempt', { kind: 'transient', reason: 'r' }, 2, 'failed', { reason: 'r' }],
    ['unknown', { kind: 'unknown', reason: 'r' }, 1, 'unknown', { reason: 'r', token: 't' }],
  ])('%s', (_, outcome, attempts, letter, detail) => {
    const page = begun(attempts);
    const then = recordOutcome(page, 0, outcome, 100, RULES);
    expect(page.letter(0)).toBe(letter);
    if (detail === undefined) expect(page.detail(0)).toBeUndefined();
    else expect(page.detail(0)).toMatchObject(detail);
    expect(page.attempts(0)).toBe(attempts);
    expect(then).toBe(outcome.kind === 'unknown' ? 'unsettled' : 'recorded');
  });
});

describe('a messenger that is sick', () => {
  const SICK: SendOutcome = { kind: 'provider', code: '421', reason: 'busy' };

  it.each([
    [0, 1_000],
    [500, 1_500],
    [2_000, 4_000],
    [30_000, 60_000],
    [3_600_000, 3_630_000],
  ])(
    'rests for %i ms: the recipient costs no attempt and comes after %i ms, behind the others',
    (restMs, dueAt) => {
      const page = begun();
      recordOutcome(page, 0, SICK, 100, { ...RULES, restMs });
      expect(page.letter(0)).toBe('retrying');
      expect(page.attempts(0)).toBe(0);
      expect(page.detail(0)).toMatchObject({ code: '421', dueAt: 100 + dueAt });
    },
  );

  it('for this recipient only: the fifth time, while others succeed, counts as its own failure', () => {
    const page = begun();
    for (let time = 1; time <= 4; time += 1) {
      recordOutcome(page, 0, SICK, 100, { ...RULES, othersSucceeded: true });
      expect([page.letter(0), page.attempts(0)]).toEqual(['retrying', 0]);
      page.begin(0, 200);
    }
    recordOutcome(page, 0, SICK, 300, { ...RULES, othersSucceeded: true });
    expect([page.letter(0), page.attempts(0)]).toEqual(['retrying', 1]);
    expect(page.detail(0)?.providerFailures).toBeUndefined();
  });
});

it('an intent that never began is taken back with what was known before', () => {
  const page = begun();
  recordOutcome(page, 0, { kind: 'provider', reason: 'busy' }, 100, { ...RULES, othersSucceeded: true });
  page.begin(0, 200);
  withdrawIntent(page, 0, 300);
  expect(page.attempts(0)).toBe(0);
  expect(page.detail(0)).toEqual({ providerFailures: 1 });
});
