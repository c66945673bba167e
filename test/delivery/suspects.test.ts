/** Crash loops of one page, played: only those that stop their workers are put aside, and everybody else goes out. */
import fc from 'fast-check';
import { expect, it, test } from 'vitest';
import { DEATHS_TO_PARK, QUARANTINED, verdictOnDeath } from '../../src/core/crash-loop.ts';
import { LedgerPage } from '../../src/core/ledger-page.ts';
import { abandon, resend } from '../../src/core/settlement.ts';
import { Slots } from '../../src/delivery/slots.ts';
import { Suspects } from '../../src/delivery/suspects.ts';

const WHY = { code: 'worker_lost', reason: 'lost' };
const LIMITS = { maxAttempts: 100, windowMs: undefined };
const noWake = (): void => undefined;

interface Play {
  readonly size: number;
  readonly window: number;
  readonly poison: ReadonlySet<number>;
  /** Hand-overs, counted from the first, during which the worker dies of something else. */
  readonly otherDeaths: ReadonlySet<number>;
}

function play({ size, window, poison, otherDeaths }: Play): {
  page: LedgerPage;
  parked: boolean;
  deaths: number;
  /** Who was alone in flight when the worker died of something else. */
  bystanders: Set<number>;
} {
  const page = new LedgerPage(size);
  const bystanders = new Set<number>();
  let pageDeaths = 0;
  let deaths = 0;
  let handOvers = 0;
  for (;;) {
    if (page.settled) return { page, parked: false, deaths, bystanders };
    if (pageDeaths >= DEATHS_TO_PARK) return { page, parked: true, deaths, bystanders };
    const suspects = new Suspects(page, new Slots(1), noWake);
    const waiting = suspects.keepOf(page.indices('pending', 'retrying'));
    let alive = true;
    while (alive && waiting.length + suspects.waiting > 0) {
      const chosen = waiting.splice(0, pageDeaths === DEATHS_TO_PARK - 1 ? 1 : window);
      if (chosen.length === 0) {
        const next = suspects.next();
        if (next === undefined) throw new Error('nobody is next');
        suspects.begin(next);
        chosen.push(next);
      }
      for (const index of chosen) page.begin(index, 1);
      handOvers += 1;
      alive = !otherDeaths.has(handOvers) && !chosen.some((index) => poison.has(index));
      if (!alive) break;
      for (const index of chosen) page.set(index, 'sent', 2);
      pageDeaths = 0;
      suspects.keepPlace(0);
    }
    if (alive) continue;
    deaths += 1;
    const [only, ...others] = page.indices('sending');
    if (only !== undefined && others.length === 0 && !poison.has(only)) bystanders.add(only);
    expect(deaths).toBeLessThan(1_000);
    const verdict = verdictOnDeath(page, pageDeaths, false);
    pageDeaths = verdict.pageDeaths;
    abandon(page, page.indices('sending'), 't', 'resend', WHY, 3, verdict.suspicion);
    for (const index of page.indices('unsettled')) resend(page, index, 4, LIMITS);
  }
}

const putAside = (page: LedgerPage): number[] =>
  page.indices('unknown').filter((index) => page.detail(index)?.code === QUARANTINED);

const plays = (others: number): fc.Arbitrary<Play> =>
  fc.integer({ min: 1, max: 40 }).chain((size) =>
    fc.record({
      size: fc.constant(size),
      window: fc.integer({ min: 1, max: 12 }),
      poison: fc.uniqueArray(fc.nat(size - 1), { maxLength: 8 }).map((indices) => new Set(indices)),
      otherDeaths: fc
        .uniqueArray(fc.integer({ min: 1, max: 60 }), { maxLength: others })
        .map((at) => new Set(at)),
    }),
  );

test('nobody is put aside who was not alone when a worker died, and who stops its workers does not go out', () => {
  fc.assert(
    fc.property(plays(1), (game) => {
      const { page, parked, bystanders } = play(game);
      for (const index of putAside(page)) expect(game.poison.has(index) || bystanders.has(index)).toBe(true);
      for (const index of game.poison) expect(page.letter(index)).not.toBe('sent');
      const aside = new Set([...putAside(page), ...game.poison]);
      if (!parked) expect(page.count('sent')).toBe(game.size - aside.size);
    }),
    { numRuns: 500 },
  );
});

test('one or two that stop their workers never cost the page', () => {
  fc.assert(
    fc.property(plays(0), (game) => {
      fc.pre(game.poison.size <= 2);
      const { page, parked, deaths } = play(game);
      expect(parked).toBe(false);
      expect(putAside(page)).toEqual([...game.poison].sort((a, b) => a - b));
      expect(deaths).toBeLessThanOrEqual(DEATHS_TO_PARK * game.poison.size);
    }),
    { numRuns: 500 },
  );
});

it('a page on which nobody can be handed over is put aside whole, after few', () => {
  const all = new Set(Array.from({ length: 100 }, (_, index) => index));
  const { page, parked, deaths } = play({ size: 100, window: 20, poison: all, otherDeaths: new Set() });
  expect([parked, deaths]).toEqual([true, 3]);
  expect([page.count('retrying'), page.count('pending')]).toEqual([41, 59]);
});

test('after one death of something else nobody goes out alone, and those that were in flight come last', () => {
  const page = new LedgerPage(6);
  for (const index of [0, 1]) page.begin(index, 1);
  const { suspicion } = verdictOnDeath(page, 0, false);
  abandon(page, page.indices('sending'), 't', 'resend', WHY, 3, suspicion);
  for (const index of page.indices('unsettled')) resend(page, index, 4, LIMITS);
  const suspects = new Suspects(page, new Slots(1), noWake);
  expect(suspects.keepOf(page.indices('pending', 'retrying'))).toEqual([2, 3, 4, 5, 0, 1]);
  expect(suspects.waiting).toBe(0);
});

it('one suspect at a time in a worker, whatever its pages; the next one is woken when the document is clean', () => {
  const place = new Slots(1);
  const woken: string[] = [];
  const of = (name: string): Suspects => {
    const page = new LedgerPage(2);
    for (const index of [0, 1]) page.set(index, 'retrying', 1, { dueAt: 0, deaths: 2 });
    const suspects = new Suspects(page, place, () => woken.push(name));
    expect(suspects.keepOf([0, 1])).toEqual([]);
    return suspects;
  };
  const [first, second] = [of('first'), of('second')];
  first.begin(first.next() ?? -1);
  expect(second.next()).toBeUndefined();
  expect([first.open, first.contended, second.open]).toEqual([true, true, false]);
  first.keepPlace(1); // a flush that still shows it as sending
  expect([woken, second.next()]).toEqual([[], undefined]);
  expect(first.next()).toBe(1); // its own next one goes with the outcome of the one before
  first.keepPlace(0);
  expect(woken).toEqual(['second']);
  second.begin(second.next() ?? -1);
  first.giveUp(); // has no place to give
  expect(place.free).toBe(0);
  second.giveUp();
  expect(place.free).toBe(1);
});
