/** Whose turn it is while a messenger's breaker is not closed: who is tried for it waits for nobody. */
import { expect, it } from 'vitest';
import { DEFAULTS } from '../../src/config.ts';
import type { HoldEnvironment } from '../../src/delivery/hold-environment.ts';
import { MessengerLine } from '../../src/delivery/messenger-line.ts';
import type { OpenRun } from '../../src/delivery/open-runs.ts';
import { RateGates } from '../../src/delivery/rate-gates.ts';
import { Turns, type TurnsOptions } from '../../src/delivery/turns.ts';
import type { Store } from '../../src/store/store.ts';
import { VirtualClock } from './virtual-clock.ts';

it('a worker full of pages takes one of the campaigns on trial, first of those with pages that nobody failed on', () => {
  const clock = new VirtualClock();
  const lineOf = (name: string): MessengerLine => {
    const rate = new RateGates({} as Store, clock).ofMessenger(name, undefined);
    const messenger = { send: () => Promise.resolve({ status: 'sent' as const }) };
    return new MessengerLine(name, messenger, clock, rate, DEFAULTS.breaker);
  };
  const lines = new Map(['post', 'other'].map((name) => [name, lineOf(name)]));
  const entry = (id: string, messenger: string, priority: number, hints: Partial<OpenRun['hints']>) =>
    ({
      campaign: { priority },
      ref: { runId: id },
      run: { messenger, limits: { concurrency: 1 } },
      step: 'send',
      hints: { due: false, behind: false, pending: false, ...hints },
      holds: new Set(),
      claiming: 0,
      lastServed: 0,
    }) as unknown as OpenRun;
  const turns = new Turns({
    env: {
      clock,
      serverNow: () => clock.now(),
      claimTtlMs: 60_000,
    } as Partial<HoldEnvironment> as HoldEnvironment,
    pageSize: 10,
    maxPagesBytes: 1_000,
    pages: { size: 1, taking: 0, expectedBytes: 1_000 } as TurnsOptions['pages'],
    lineOf: ({ run }) => lines.get(run?.messenger ?? ''),
  });
  const all = [
    entry('important', 'other', 10, { pending: true }),
    entry('failed before', 'post', 5, { due: true }),
    entry('untried', 'post', 0, { pending: true }),
  ];
  const post = lines.get('post') as MessengerLine;
  const claimed = (): string[] => {
    const found: string[] = [];
    turns.giveOut(all, ({ ref, run }) => {
      found.push(ref.runId);
      if (run?.messenger === 'post') post.claiming += 1;
      return true;
    });
    return found;
  };
  expect(claimed()).toEqual([]);
  post.breaker.shut();
  expect(claimed()).toEqual([]);
  post.breaker.tryUntil(clock.monotonic() + 10_000);
  expect(claimed()).toEqual(['untried']);
  expect(claimed()).toEqual([]); // one page at a time
});
