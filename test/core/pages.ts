/** Ledger pages for property tests: built by random histories, so that every reachable page can come up. */
import fc from 'fast-check';
import { expect } from 'vitest';
import {
  DELIVERY_STATES,
  emptyCounts,
  LETTERS,
  LedgerPage,
  type Letter,
} from '../../src/core/ledger-page.ts';

const letters = Object.keys(LETTERS) as Letter[];

type Step = (page: LedgerPage) => void;

const step = (size: number): fc.Arbitrary<Step> =>
  fc
    .tuple(
      fc.integer({ min: 0, max: size - 1 }),
      fc.nat(200),
      fc.constantFrom(...letters),
      fc.constantFrom('set', 'begin', 'withdraw', 'renew', 'detail'),
    )
    .map(([index, at, letter, how]) => (page: LedgerPage) => {
      if (how === 'begin') page.begin(index, at);
      else if (how === 'withdraw') page.withdraw(index, at, at % 2 === 0 ? { dueAt: at } : undefined);
      else if (how === 'renew') page.renew(index, at, at);
      else page.set(index, letter, at, how === 'detail' ? { token: 't', code: 'c', dueAt: at } : undefined);
    });

/** The steps of a history and the page they lead to. */
export function histories(): fc.Arbitrary<{ size: number; steps: readonly Step[] }> {
  return fc
    .integer({ min: 1, max: 12 })
    .chain((size) => fc.record({ size: fc.constant(size), steps: fc.array(step(size), { maxLength: 40 }) }));
}

export function pages(): fc.Arbitrary<LedgerPage> {
  return histories().map(({ size, steps }) => {
    const page = new LedgerPage(size);
    for (const take of steps) take(page);
    return page;
  });
}

export function expectCountsTrue(page: LedgerPage): void {
  const recount = emptyCounts();
  for (let index = 0; index < page.size; index += 1) recount[page.state(index)] += 1;
  expect(page.counts).toEqual(recount);
  expect(DELIVERY_STATES.reduce((sum, state) => sum + page.counts[state], 0)).toBe(page.size);
}

/** Everything a page says, as plain data. */
export function snapshot(page: LedgerPage) {
  return Array.from({ length: page.size }, (_, index) => ({
    letter: page.letter(index),
    at: page.at(index),
    attempts: page.attempts(index),
    generation: page.generation(index),
    detail: page.detail(index),
  }));
}
