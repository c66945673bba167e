/** What each order does to a page: a table, and laws that hold for every page. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEATHS_TO_PARK, QUARANTINED } from '../../src/core/crash-loop.ts';
import { type Detail, LETTERS, LedgerPage, type Letter } from '../../src/core/ledger-page.ts';
import {
  applyOrder,
  CLOCK_TOLERANCE_MS,
  type Order,
  type OrderKind,
  type OrderTargets,
  orderSends,
} from '../../src/core/orders.ts';
import { applyLateTruths, resend, waiting } from '../../src/core/settlement.ts';
import { expectCountsTrue, pages, snapshot } from './pages.ts';

const AT = 1_000;
const NOBODY: ReadonlySet<number> = new Set();
const KINDS: readonly OrderKind[] = [
  { kind: 'cancel' },
  { kind: 'retry-failed' },
  { kind: 'resolve-unknown', resolution: 'sent' },
  { kind: 'resolve-unknown', resolution: 'failed' },
  { kind: 'resolve-unknown', resolution: 'resend' },
  { kind: 'release-parked' },
];

const orderOf = (kind: OrderKind, more: Partial<Order> = {}): Order =>
  ({ ...kind, n: 3, runId: 'run', targets: 'all', at: AT, ...more }) as Order;

/** One recipient in each state, recorded at `at`. */
function oneOfEach(at: number): LedgerPage {
  const letters = Object.keys(LETTERS) as Letter[];
  const page = new LedgerPage(letters.length);
  for (const [index, letter] of letters.entries()) page.set(index, letter, at, { token: 'old' });
  return page;
}
const lettersOf = (page: LedgerPage): Letter[] =>
  Array.from({ length: page.size }, (_, index) => page.letter(index));

describe('the table', () => {
  //            pending    sending    unsettled    retrying   sent    failed     skipped    unknown
  const same = ['pending', 'sending', 'unsettled', 'retrying', 'sent', 'failed', 'skipped', 'unknown'];
  it.each<[OrderKind, string[]]>([
    [
      { kind: 'cancel' },
      ['skipped', 'sending', 'unknown', 'skipped', 'sent', 'failed', 'skipped', 'unknown'],
    ],
    [{ kind: 'retry-failed' }, same.with(5, 'pending')],
    [{ kind: 'resolve-unknown', resolution: 'sent' }, same.with(7, 'sent')],
    [{ kind: 'resolve-unknown', resolution: 'failed' }, same.with(7, 'failed')],
    [{ kind: 'resolve-unknown', resolution: 'resend' }, same.with(7, 'retrying')],
    [{ kind: 'release-parked' }, same],
  ])('%o', (kind, expected) => {
    const page = oneOfEach(AT);
    applyOrder(page, 0, orderOf(kind), NOBODY);
    expect(lettersOf(page)).toEqual(expected);
  });

  it('only these make something go out', () => {
    expect(KINDS.filter(orderSends)).toEqual([KINDS[1], KINDS[4], KINDS[5]]);
  });

  it('another round has new attempts and a new generation', () => {
    const page = new LedgerPage(2);
    for (const index of [0, 1]) page.begin(index, 1);
    for (const index of [0, 1]) page.set(index, 'failed', 2, { reason: 'full' });
    applyOrder(page, 0, orderOf({ kind: 'retry-failed' }, { targets: [{ n: 0, indices: [1] }] }), NOBODY);
    expect([page.generation(0), page.attempts(0), page.state(0)]).toEqual([0, 1, 'failed']);
    expect([page.generation(1), page.attempts(1), page.state(1)]).toEqual([3, 0, 'pending']);
    expect(page.detail(1)).toBeUndefined();
  });
});

describe('what was recorded after the order, by more than two clocks may differ,', () => {
  const AFTER = AT + CLOCK_TOLERANCE_MS + 1;
  it.each(KINDS.filter(({ kind }) => kind !== 'cancel'))('is not touched: %o', (kind) => {
    const page = oneOfEach(AFTER);
    applyOrder(page, 0, orderOf(kind), NOBODY);
    expect(lettersOf(page)).toEqual(lettersOf(oneOfEach(AFTER)));
  });

  it('is not touched where the doubt came later than the intent', () => {
    const page = oneOfEach(AT - 500);
    page.set(7, 'unknown', AT - 500, { token: 'old', since: AFTER });
    page.set(5, 'failed', AT - 500, { token: 'old', since: AFTER });
    applyOrder(page, 0, orderOf({ kind: 'resolve-unknown', resolution: 'sent' }), NOBODY);
    applyOrder(page, 0, orderOf({ kind: 'retry-failed' }), NOBODY);
    expect([page.letter(7), page.letter(5)]).toEqual(['unknown', 'failed']);
  });
});

it('what a clock that is a little ahead recorded before the order is meant by it', () => {
  const page = oneOfEach(AT + CLOCK_TOLERANCE_MS);
  applyOrder(page, 0, orderOf({ kind: 'resolve-unknown', resolution: 'sent' }), NOBODY);
  expect(page.count('unknown')).toBe(0);
});

it('releasing brings back who was put aside, with its key and its attempts, and nobody else', () => {
  const page = oneOfEach(AT);
  const unknown = page.indices('unknown');
  const [aside = -1] = unknown;
  page.set(aside, 'unknown', AT, { code: QUARANTINED, token: 'old', since: AT });
  const before = [page.attempts(aside), page.generation(aside)];
  applyOrder(page, 0, orderOf({ kind: 'release-parked' }), NOBODY);
  expect(page.indices('unknown')).toEqual(unknown.slice(1));
  expect([page.letter(aside), page.detail(aside)]).toEqual([
    'retrying',
    { dueAt: 0, code: 'resend', deaths: DEATHS_TO_PARK - 1 },
  ]);
  expect([page.attempts(aside), page.generation(aside)]).toEqual(before);
});

describe('while an earlier hand-over may still be under way', () => {
  const entry = { token: 'old', recipients: [0], waitMs: 100 };
  const limits = { maxAttempts: 5, windowMs: undefined };

  function doubtful(letter: Letter, detail: Detail): LedgerPage {
    const page = new LedgerPage(1);
    page.begin(0, 10);
    page.set(0, letter, 10, { token: 'old', ...detail });
    return page;
  }

  it('a resend waits until it has been counted', () => {
    const page = doubtful('unknown', { code: 'worker_lost' });
    applyOrder(page, 0, orderOf({ kind: 'resolve-unknown', resolution: 'resend' }), new Set([0]));
    expect(page.letter(0)).toBe('unsettled');
    expect(waiting(page, entry)).toEqual({ resend: [0], reconcile: [] });
    resend(page, 0, 2_000, limits);
    expect(page.letter(0)).toBe('retrying');
  });

  it('so does another round for who was given up', () => {
    const page = doubtful('failed', { code: 'gave_up' });
    applyOrder(page, 0, orderOf({ kind: 'retry-failed' }), new Set([0]));
    expect(page.letter(0)).toBe('unsettled');
    expect(waiting(page, entry)).toEqual({ resend: [0], reconcile: [] });
    resend(page, 0, 2_000, limits);
    expect([page.letter(0), page.attempts(0), page.generation(0)]).toEqual(['pending', 0, 3]);
  });

  it('and for who was resolved as failed', () => {
    const page = doubtful('unknown', { code: 'worker_lost' });
    applyOrder(page, 0, orderOf({ kind: 'resolve-unknown', resolution: 'failed' }), new Set([0]));
    applyOrder(page, 0, orderOf({ kind: 'retry-failed' }, { n: 4 }), new Set([0]));
    expect(page.letter(0)).toBe('unsettled');
    expect(waiting(page, entry)).toEqual({ resend: [0], reconcile: [] });
  });

  it('a truth that it was sent ends the wait; a truth that it failed does not', () => {
    const truth = { token: 'old', recipient: 0, attempt: 1, at: 50 };
    const page = doubtful('failed', { code: 'gave_up' });
    applyOrder(page, 0, orderOf({ kind: 'retry-failed' }), new Set([0]));
    expect(applyLateTruths(page, [{ ...truth, state: 'failed' }])).toBe(0);
    expect(page.letter(0)).toBe('unsettled');
    expect(applyLateTruths(page, [{ ...truth, state: 'sent' }])).toBe(1);
    expect(page.letter(0)).toBe('sent');
  });
});

describe('laws', () => {
  const kinds = fc.constantFrom(...KINDS);
  const targets = (size: number): fc.Arbitrary<OrderTargets> =>
    fc.oneof(
      fc.constant('all' as const),
      fc
        .uniqueArray(fc.integer({ min: 0, max: Math.max(0, size - 1) }), { maxLength: 5 })
        .map((indices) => [{ n: 0, indices }]),
      fc.constant([{ n: 1, indices: [0, 1] }]),
    );
  const cases = pages().chain((page) =>
    fc.record({ page: fc.constant(page), kind: kinds, targets: targets(page.size), at: fc.nat(200) }),
  );

  it('counts stay true, twice is once, and others are left alone', () => {
    fc.assert(
      fc.property(cases, ({ page, kind, targets: named, at }) => {
        const order = orderOf(kind, { targets: named, at });
        const before = lettersOf(page);
        const unsettled = new Set(page.indices('unsettled'));
        applyOrder(page, 0, order, unsettled);
        expectCountsTrue(page);
        const once = snapshot(page);
        applyOrder(page, 0, order, unsettled);
        expect(snapshot(page)).toEqual(once);
        if (named === 'all' || kind.kind === 'cancel') return;
        const chosen = new Set(named.flatMap(({ n, indices }) => (n === 0 ? indices : [])));
        for (const [index, letter] of before.entries())
          if (!chosen.has(index)) expect(page.letter(index)).toBe(letter);
      }),
    );
  });

  it('nobody who was sent or is being sent is ever touched', () => {
    fc.assert(
      fc.property(cases, ({ page, kind, targets: named, at }) => {
        const safe = page.indices('sent', 'sending');
        const before = safe.map((index) => [page.letter(index), page.at(index), page.attempts(index)]);
        applyOrder(page, 0, orderOf(kind, { targets: named, at }), NOBODY);
        expect(safe.map((index) => [page.letter(index), page.at(index), page.attempts(index)])).toEqual(
          before,
        );
      }),
    );
  });
});
