/** What the death of a holder says: whom it names, and when it counts against the page. */
import { describe, expect, it } from 'vitest';
import { DEATHS_TO_PARK, isSuspect, QUARANTINED, verdictOnDeath } from '../../src/core/crash-loop.ts';
import { LedgerPage } from '../../src/core/ledger-page.ts';
import { recordOutcome, withdrawIntent } from '../../src/core/outcome.ts';
import { abandon, applyLateTruths, type OnUnknown, resend } from '../../src/core/settlement.ts';

const WHY = { code: 'worker_lost', reason: 'lost' };
const LIMITS = { maxAttempts: 5, windowMs: undefined };

/** `deaths` of those in flight; `undefined`: it has never been in flight at a death. */
function inFlight(...deaths: (number | undefined)[]): LedgerPage {
  const page = new LedgerPage(deaths.length + 1);
  for (const [index, before] of deaths.entries()) {
    if (before !== undefined) page.set(index, 'retrying', 1, { dueAt: 0, deaths: before });
    page.begin(index, 100);
  }
  return page;
}

describe('a death', () => {
  it.each<[string, LedgerPage, number, boolean, number, [number, number][]]>([
    ['nothing in flight', inFlight(), 1, false, 1, []],
    [
      'several for the first time',
      inFlight(undefined, undefined),
      0,
      false,
      1,
      [
        [0, 1],
        [1, 1],
      ],
    ],
    ['one for the first time', inFlight(undefined), 2, false, 3, [[0, 1]]],
    [
      'several for the second time: suspects, and one for the first',
      inFlight(1, undefined, 1),
      1,
      false,
      2,
      [
        [0, 2],
        [1, 1],
        [2, 2],
      ],
    ],
    ['one alone for the second time is named', inFlight(1), 1, false, 1, [[0, 2]]],
    ['a suspect alone is named', inFlight(2), 0, false, 0, [[0, 3]]],
    [
      'a suspect with others is not named',
      inFlight(2, undefined),
      0,
      false,
      1,
      [
        [0, 2],
        [1, 1],
      ],
    ],
    ['one that was stopping says nothing', inFlight(undefined, undefined), 2, true, 2, []],
    ['and leaves suspects what they are', inFlight(2), 1, true, 1, [[0, 2]]],
  ])('%s', (_what, page, before, wasStopping, after, suspicion) => {
    expect(verdictOnDeath(page, before, wasStopping)).toEqual({
      pageDeaths: after,
      suspicion: new Map(suspicion),
    });
  });

  it.each([
    ['resend', 0],
    ['reconcile', 1],
  ] as const)('while those of an earlier death wait to be settled by %s counts %i', (settle, deaths) => {
    const page = new LedgerPage(2);
    page.set(0, 'unsettled', 5, { token: 't', settle });
    expect(verdictOnDeath(page, 0, false)).toEqual({ pageDeaths: deaths, suspicion: new Map() });
  });
});

describe('a suspect', () => {
  const dead = (page: LedgerPage, policy: OnUnknown = 'resend'): void => {
    const { suspicion } = verdictOnDeath(page, 0, false);
    abandon(page, page.indices('sending'), 't', policy, WHY, 500, suspicion);
  };

  it.each(['hold', 'give-up'] as const)('is nobody where the policy is %s', (policy) => {
    const page = inFlight(1);
    dead(page, policy);
    expect(isSuspect(page, 0)).toBe(false);
  });

  it('is one after the second death in a row, until it has an outcome, and is put aside after the third', () => {
    const page = inFlight(undefined);
    for (let deaths = 1; deaths <= DEATHS_TO_PARK; deaths += 1) {
      dead(page);
      expect(page.detail(0)?.deaths).toBe(deaths);
      resend(page, 0, 600, LIMITS);
      if (deaths === DEATHS_TO_PARK) break;
      expect(page.letter(0)).toBe('retrying');
      page.begin(0, 700);
      withdrawIntent(page, 0, 710); // a pause
      expect(isSuspect(page, 0)).toBe(deaths === 2);
      page.begin(0, 720);
    }
    expect([page.letter(0), page.attempts(0)]).toEqual(['unknown', 3]);
    expect(page.detail(0)).toEqual({
      code: QUARANTINED,
      reason: expect.stringContaining('3 workers in a row'),
      token: 't',
      since: 600,
    });
  });

  it('is none any more after an outcome', () => {
    const page = inFlight(2);
    page.set(0, 'retrying', 800, { dueAt: 900, reason: 'busy' });
    expect(isSuspect(page, 0)).toBe(false);
  });

  it.each(['provider', 'transient'] as const)('is none any more after a failure: %s', (kind) => {
    const page = inFlight(2);
    const retry = { maxAttempts: 5, firstDelayMs: 1_000, maxDelayMs: 1_000 };
    const rules = { retry, onUnknown: 'resend', token: 't', othersSucceeded: true, restMs: 0 } as const;
    recordOutcome(page, 0, { kind, reason: 'busy' }, 800, { ...rules, random: () => 0.5 });
    expect(page.letter(0)).toBe('retrying');
    expect(page.detail(0)?.deaths).toBeUndefined();
    page.begin(0, 9_000);
    dead(page);
    expect(page.detail(0)?.deaths).toBe(1);
  });

  it('that is known to have been sent is not put aside', () => {
    const page = inFlight(2);
    dead(page);
    applyLateTruths(page, [{ token: 't', recipient: 0, attempt: 1, state: 'sent', at: 550 }]);
    expect(page.letter(0)).toBe('sent');
  });

  it('without attempts left is held for that', () => {
    const page = inFlight(1);
    dead(page);
    resend(page, 0, 600, { ...LIMITS, maxAttempts: 1 });
    expect(page.detail(0)).toEqual({ ...WHY, reason: 'no attempts left', token: 't', since: 600 });
  });
});
