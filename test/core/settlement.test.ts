/** Recipients whose fate is open: what each policy makes of them, and which truths still count. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LedgerPage, type Letter } from '../../src/core/ledger-page.ts';
import {
  abandon,
  applyLateTruths,
  GAVE_UP,
  hold,
  type LateTruth,
  type OnUnknown,
  resend,
  waiting,
} from '../../src/core/settlement.ts';
import { expectCountsTrue, pages, snapshot } from './pages.ts';

const WHY = { code: 'worker_lost', reason: 'lost' };
const NO_LIMITS = { maxAttempts: 5, windowMs: undefined };
const ENTRY = { token: 'old', recipients: [0, 1, 2], waitMs: 10 };

/** Three recipients whose intents were written at 100 under the token `old`, and are given up at 500. */
function abandoned(policy: OnUnknown): LedgerPage {
  const page = new LedgerPage(3);
  for (const index of [0, 1, 2]) page.begin(index, 100);
  abandon(page, [0, 1, 2], 'old', policy, WHY, 500);
  return page;
}

describe('given up', () => {
  it.each<[OnUnknown, Letter, string | undefined]>([
    ['hold', 'unknown', 'worker_lost'],
    ['give-up', 'failed', GAVE_UP],
    ['resend', 'unsettled', 'worker_lost'],
    ['reconcile', 'unsettled', 'worker_lost'],
  ])('%s makes it %s', (policy, letter, code) => {
    const page = abandoned(policy);
    expect(page.letter(1)).toBe(letter);
    expect(page.detail(1)).toMatchObject({ token: 'old', code });
    expect([page.at(1), page.attempts(1)]).toEqual([100, 1]);
    expect(page.detail(1)?.since).toBe(letter === 'unsettled' ? undefined : 500);
  });

  it('waits by what is to be done, under its own token only', () => {
    expect(waiting(abandoned('resend'), ENTRY)).toEqual({ resend: [0, 1, 2], reconcile: [] });
    expect(waiting(abandoned('reconcile'), ENTRY)).toEqual({ resend: [], reconcile: [0, 1, 2] });
    expect(waiting(abandoned('hold'), ENTRY)).toEqual({ resend: [], reconcile: [] });
    expect(waiting(abandoned('resend'), { ...ENTRY, token: 'other' }).resend).toEqual([]);
    expect(waiting(abandoned('resend'), { ...ENTRY, recipients: [2] }).resend).toEqual([2]);
  });
});

describe('a resend', () => {
  it.each<[string, Letter, object, number]>([
    ['goes out at once', 'retrying', NO_LIMITS, 1_000],
    ['is held when no attempt is left', 'unknown', { ...NO_LIMITS, maxAttempts: 1 }, 1_000],
    ['is held when the provider has forgotten the key', 'unknown', { ...NO_LIMITS, windowMs: 899 }, 1_000],
    ['goes out while the provider remembers', 'retrying', { ...NO_LIMITS, windowMs: 900 }, 1_000],
  ])('%s', (_what, letter, limits, now) => {
    const page = abandoned('resend');
    resend(page, 0, now, { ...NO_LIMITS, ...limits });
    expect(page.letter(0)).toBe(letter);
    expect(page.detail(0)?.settle).toBeUndefined();
    if (letter === 'retrying') expect(page.nextDueAt()).toBe(0);
    else expect(page.detail(0)).toMatchObject({ token: 'old', since: now });
  });

  it('held for a reason keeps the token, so that a truth still finds it', () => {
    const page = abandoned('reconcile');
    hold(page, 0, 'no answer', 700);
    expect(page.detail(0)).toEqual({ code: 'worker_lost', reason: 'no answer', token: 'old', since: 700 });
    expect(page.at(0)).toBe(100);
  });
});

describe('a late truth', () => {
  const truth = (more: Partial<LateTruth> = {}): LateTruth => ({
    token: 'old',
    recipient: 0,
    attempt: 1,
    state: 'sent',
    at: 900,
    detail: { providerId: 'x' },
    ...more,
  });
  const afterwards = (page: LedgerPage, ...truths: LateTruth[]): Letter => {
    applyLateTruths(page, truths);
    return page.letter(0);
  };

  it.each<[OnUnknown]>([['hold'], ['give-up'], ['resend'], ['reconcile']])(
    'ends the doubt of %s',
    (policy) => {
      const page = abandoned(policy);
      expect(afterwards(page, truth())).toBe('sent');
      expect([page.at(0), page.detail(0)]).toEqual([900, { providerId: 'x' }]);
    },
  );

  it.each<[string, Partial<LateTruth>]>([
    ['another claim', { token: 'other' }],
    ['another attempt', { attempt: 2 }],
  ])('about %s changes nothing', (_what, more) => {
    expect(afterwards(abandoned('hold'), truth(more))).toBe('unknown');
  });

  it('about somebody of whom nobody doubts changes nothing', () => {
    for (const letter of ['pending', 'sending', 'retrying', 'sent', 'failed', 'skipped'] as const) {
      const page = abandoned('hold');
      page.set(0, letter, 200, { token: 'old' });
      expect(afterwards(page, truth({ state: 'failed' }))).toBe(letter);
    }
  });

  it('that it did not leave lets a planned resend go ahead, and ends a doubt otherwise', () => {
    const failed = truth({ state: 'failed', retryable: true });
    expect(afterwards(abandoned('resend'), failed)).toBe('unsettled');
    expect(afterwards(abandoned('hold'), failed)).toBe('failed');
    expect(afterwards(abandoned('resend'), { ...failed, retryable: false })).toBe('failed');
  });

  it('counts once', () => {
    const page = abandoned('hold');
    expect(applyLateTruths(page, [truth(), truth({ state: 'failed' })])).toBe(1);
    expect(page.letter(0)).toBe('sent');
  });
});

describe('laws', () => {
  const truths = (size: number) =>
    fc.array(
      fc.record({
        token: fc.constantFrom('t', 'u'),
        recipient: fc.integer({ min: 0, max: size - 1 }),
        attempt: fc.integer({ min: 0, max: 3 }),
        state: fc.constantFrom('sent' as const, 'failed' as const, 'skipped' as const),
        at: fc.nat(200),
        retryable: fc.boolean(),
      }),
      { maxLength: 6 },
    );

  it('truths twice are truths once, and counts stay true', () => {
    fc.assert(
      fc.property(
        pages().chain((page) => fc.tuple(fc.constant(page), truths(page.size))),
        ([page, told]) => {
          const certain = page.indices('sent', 'skipped', 'pending', 'sending', 'retrying');
          const before = certain.map((index) => page.letter(index));
          applyLateTruths(page, told);
          expectCountsTrue(page);
          const once = snapshot(page);
          expect(applyLateTruths(page, told)).toBe(0);
          expect(snapshot(page)).toEqual(once);
          expect(certain.map((index) => page.letter(index))).toEqual(before);
        },
      ),
    );
  });
});
