/**
 * The breakers of this worker's messengers: about once a second it reads what the cluster knows of those that are in use,
 * in one question, adds what it has seen itself, and does what is due. Invariant: a messenger in good health costs that
 * one question and no write; an idle one is asked about every 5 s.
 */

import { NEW_BREAKER } from '../core/breaker.ts';
import { breakerOf } from '../core/breaker-document.ts';
import type { MessengerLine } from '../delivery/messenger-line.ts';
import { inParallel } from '../in-parallel.ts';
import { hasEnded } from '../process-info.ts';
import { readBreakers } from '../store/breakers.ts';
import { isNewer } from '../store/campaigns.ts';
import type { Store } from '../store/store.ts';
import { liveWorkers } from '../store/workers.ts';
import { createDuty, type Duty } from './duty.ts';
import { LineBreaker, type LineBreakerOptions } from './line-breaker.ts';

export interface BreakersOptions extends LineBreakerOptions {
  readonly lines: readonly MessengerLine[];
  /** How often work is looked for, ms. */
  readonly pollMs: number;
}

/** Ids of the live workers that have this messenger: they gave a sign of life within so long. */
export async function workersHaving(store: Store, messenger: string, withinMs: number): Promise<string[]> {
  const workers = await liveWorkers(store, withinMs);
  return workers
    .filter(
      (worker) => worker.state === 'running' && worker.messengers.some(({ name }) => name === messenger),
    )
    .filter((worker) => !hasEnded(worker))
    .map(({ _id }) => _id);
}

const IDLE_MS = 5_000;
const SLOWEST_MS = 1_000;
const FASTEST_MS = 250;
const AT_ONCE = 8;

export function createBreakers(options: BreakersOptions): Duty {
  const { store, clock, serverNow, logger, survey } = options;
  const all = options.lines.map((line) => new LineBreaker(options, line));
  let allReadAt = Number.NEGATIVE_INFINITY;

  return createDuty({
    name: 'breakers',
    everyMs: Math.min(SLOWEST_MS, Math.max(FASTEST_MS, options.pollMs)),
    clock,
    logger,
    run: async () => {
      const askedAt = clock.monotonic();
      const standing = survey();
      const isTime = askedAt - allReadAt >= IDLE_MS;
      const due = all.filter((one) => isTime || one.wantsToKnow(standing.get(one.messenger)));
      if (due.length === 0) return;
      const found = await readBreakers(
        store,
        due.map(({ messenger }) => messenger),
      );
      if (isTime) allReadAt = askedAt;
      await inParallel(due, AT_ONCE, async (one) => {
        const { document, now = serverNow().getTime() } = found.get(one.messenger) ?? {};
        try {
          if (document === undefined) await one.treat(NEW_BREAKER, now, askedAt, standing.get(one.messenger));
          else if (isNewer(document)) one.leaveAlone();
          else {
            const breaker = breakerOf(document, now);
            if (breaker === undefined) await one.repair(document, now);
            else await one.treat(breaker, now, askedAt, standing.get(one.messenger));
          }
        } catch (error) {
          // What goes wrong with one messenger must not stop the others; the next round tries again.
          logger.warn(
            { error, messenger: one.messenger },
            'a breaker could not be looked after; trying again',
          );
        }
      });
    },
  });
}
