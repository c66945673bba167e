/** How a page without anything in flight is let go of. */
import fc from 'fast-check';
import { expect, it, test } from 'vitest';
import { DEATHS_TO_PARK } from '../../src/core/crash-loop.ts';
import { LedgerPage, type Letter } from '../../src/core/ledger-page.ts';
import { decideRelease, type HoldSituation } from '../../src/core/page-release.ts';
import { pages } from './pages.ts';

const NOW = 1_000_000;
const HOLD: HoldSituation = { deaths: 0, queued: 0, lettingGo: false, now: NOW, openFrom: (at) => at };

function pageOf(letters: readonly Letter[], dueAt?: number): LedgerPage {
  const page = new LedgerPage(letters.length);
  for (const [index, letter] of letters.entries()) {
    if (letter !== 'pending')
      page.set(index, letter, 1, letter === 'retrying' && dueAt !== undefined ? { dueAt } : undefined);
  }
  return page;
}

const inMs = (ms: number) => ({ status: 'waiting', dueAt: new Date(NOW + ms) });

it.each<[string, LedgerPage, Partial<HoldSituation>, unknown]>([
  ['everybody has an outcome', pageOf(['sent', 'failed', 'skipped', 'unknown']), {}, { status: 'done' }],
  ['and its holders died', pageOf(['sent']), { deaths: DEATHS_TO_PARK }, { status: 'done' }],
  ['its holders died', pageOf(['sent', 'pending']), { deaths: DEATHS_TO_PARK }, { status: 'parked' }],
  ['somebody may be sent to', pageOf(['sent', 'pending']), { queued: 1 }, undefined],
  ['the same, its turn is over', pageOf(['pending']), { queued: 1, lettingGo: true }, { status: 'pending' }],
  ['an earlier send may be under way', pageOf(['sent', 'unsettled']), {}, undefined],
  ['the same, its turn is over', pageOf(['sent', 'unsettled']), { lettingGo: true }, { status: 'pending' }],
  ['a retry is due later', pageOf(['sent', 'retrying'], NOW + 12_345), {}, inMs(15_000)],
  ['a retry is due', pageOf(['retrying'], NOW), {}, { status: 'pending' }],
  ['a retry without an instant', pageOf(['retrying']), {}, { status: 'pending' }],
  ['the window opens after that', pageOf(['retrying'], NOW + 5), { openFrom: () => NOW + 77 }, inMs(77)],
  ['the window opens later', pageOf(['retrying'], NOW - 5), { openFrom: (at) => at + 77 }, inMs(77)],
])('%s', (_, page, more, release) => {
  expect(decideRelease(page, { ...HOLD, ...more })).toEqual(release);
});

test('a page that is let go of is always let go of, and done only when it is settled', () => {
  fc.assert(
    fc.property(pages(), fc.nat(5), fc.nat(3), (page, deaths, queued) => {
      const release = decideRelease(page, { ...HOLD, deaths, queued, lettingGo: true });
      expect(release).toBeDefined();
      expect(release?.status === 'done').toBe(page.settled);
      if (release?.status === 'waiting') expect(release.dueAt.getTime()).toBeGreaterThan(NOW);
    }),
  );
});
