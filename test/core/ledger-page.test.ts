/** The ledger of one page: its counts are always a recount, and what is stored comes back as it was. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addCounts,
  type Detail,
  emptyCounts,
  LETTERS,
  LedgerPage,
  type Letter,
  settledCount,
} from '../../src/core/ledger-page.ts';
import { expectCountsTrue, histories, pages, snapshot } from './pages.ts';

describe('laws', () => {
  it('counts equal a recount after every step', () => {
    fc.assert(
      fc.property(histories(), ({ size, steps }) => {
        const page = new LedgerPage(size);
        for (const step of steps) {
          step(page);
          expectCountsTrue(page);
        }
      }),
    );
  });

  it('what the flushes wrote reads as the page that was written, however they were cut', () => {
    fc.assert(
      fc.property(histories(), fc.integer({ min: 1, max: 5 }), ({ size, steps }, stepsPerFlush) => {
        const page = new LedgerPage(size);
        const stored: Record<string, Detail> = {};
        const flush = (): void => {
          for (const [index, detail] of page.takeChangedDetails()) {
            if (detail === undefined) delete stored[index];
            else stored[index] = detail;
          }
        };
        for (const [position, step] of steps.entries()) {
          step(page);
          if (position % stepsPerFlush === 0) flush();
        }
        flush();
        const read = new LedgerPage(size, page.columns(), stored);
        expect(snapshot(read)).toEqual(snapshot(page));
        expect(read.counts).toEqual(page.counts);
        expectCountsTrue(read);
      }),
    );
  });

  it('a detail whose write did not happen is written with the next flush', () => {
    fc.assert(
      fc.property(pages(), (page) => {
        const lost = page.takeChangedDetails();
        expect(page.takeChangedDetails().size).toBe(0);
        for (const index of lost.keys()) page.keepChanged(index);
        expect(page.takeChangedDetails()).toEqual(lost);
      }),
    );
  });

  it('is settled when nobody is pending, sending or retrying', () => {
    fc.assert(
      fc.property(pages(), (page) => {
        const open = page.indices('pending', 'sending', 'unsettled', 'retrying').length;
        expect(page.settled).toBe(open === 0);
        expect(settledCount(page.counts)).toBe(page.size - open);
        for (const letter of Object.keys(LETTERS) as Letter[])
          expect(page.count(letter)).toBe(page.indices(letter).length);
      }),
    );
  });

  it('is next due when the earliest retry is', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1_000), { minLength: 1, maxLength: 10 }), (dues) => {
        const page = new LedgerPage(dues.length + 1);
        for (const [index, dueAt] of dues.entries()) page.set(index, 'retrying', 1, { dueAt });
        expect(page.nextDueAt()).toBe(Math.min(...dues));
      }),
    );
  });
});

describe('a page', () => {
  it('begins with everybody pending and stores no generations until there is one', () => {
    const page = new LedgerPage(3);
    expect(page.columns()).toEqual({
      states: '...',
      at: Buffer.alloc(18),
      attempts: Buffer.from([0, 0, 0]),
    });
    expect(page.nextDueAt()).toBeUndefined();
    page.renew(1, 7, 5);
    expect(page.columns().generations).toEqual(Buffer.from([0, 0, 7, 0, 0, 0]));
  });

  it('can be read by eye', () => {
    const page = new LedgerPage(8);
    for (const [index, letter] of (Object.keys(LETTERS) as Letter[]).entries()) page.set(index, letter, 1);
    expect(page.columns().states).toBe('.>?rsfku');
    expect(page.state(2)).toBe('sending');
  });

  it('may be empty', () => {
    const page = new LedgerPage(0);
    expect([page.settled, page.columns().states]).toEqual([true, '']);
  });

  it('keeps instants far in the future', () => {
    const page = new LedgerPage(1);
    const far = Date.UTC(9999, 11, 31);
    page.set(0, 'sent', far);
    expect(new LedgerPage(1, page.columns()).at(0)).toBe(far);
  });

  it('refuses columns of another size, and letters that do not exist', () => {
    const columns = (states: string) => ({ states, at: new Uint8Array(12), attempts: new Uint8Array(2) });
    expect(() => new LedgerPage(2, columns('s'))).toThrow('a page of 2 has 1 states');
    expect(() => new LedgerPage(2, columns('sX'))).toThrow('recipient 1 has no known state');
  });
});

describe('an intent', () => {
  it('counts its attempt; withdrawn, it does not', () => {
    const page = new LedgerPage(1);
    page.begin(0, 10);
    expect([page.state(0), page.attempts(0), page.at(0)]).toEqual(['sending', 1, 10]);
    page.withdraw(0, 20);
    expect([page.state(0), page.attempts(0)]).toEqual(['pending', 0]);
    page.withdraw(0, 30);
    expect(page.attempts(0)).toBe(0);
  });

  it('of a second attempt goes back to retrying, and so does one with a time', () => {
    const page = new LedgerPage(2);
    page.begin(0, 1);
    page.begin(0, 2);
    page.withdraw(0, 3);
    expect([page.letter(0), page.attempts(0)]).toEqual(['retrying', 1]);
    page.begin(1, 1);
    page.withdraw(1, 2, { dueAt: 9 });
    expect([page.letter(1), page.attempts(1), page.nextDueAt()]).toEqual(['retrying', 0, 0]);
  });

  it('keeps how often the messenger failed and nothing else of the detail', () => {
    const page = new LedgerPage(1);
    page.set(0, 'retrying', 1, { providerFailures: 2, reason: 'down', dueAt: 5 });
    page.begin(0, 2);
    expect(page.detail(0)).toEqual({ providerFailures: 2 });
  });
});

it('counts are added up, missing ones are none', () => {
  expect(addCounts(emptyCounts(), { sent: 2 })).toEqual({ ...emptyCounts(), sent: 2 });
  expect(addCounts({ ...emptyCounts(), sent: 1 }, undefined).sent).toBe(1);
});
