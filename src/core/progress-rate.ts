/**
 * How fast a run has been sending, from sums that people's looks left behind. Pure. A look costs one sum anyway; keeping a
 * few earlier ones beside it tells the rate without a counter that every send would have to write. Invariant: the rate is
 * an average over a span that is told with it, never an extrapolation.
 */
import { type Counts, settledCount } from './ledger-page.ts';

/** How many recipients were settled at an instant (server time). */
export interface ProgressSample {
  readonly settled: number;
  readonly at: Date;
}

export interface MeasuredRate {
  /** Recipients settled per second: sent, failed, skipped or unknown. */
  readonly perSecond: number;
  /** The time over which it was measured, ms: longer where nobody has looked for a while. */
  readonly overMs: number;
}

/** Samples are at least this far apart, ms. */
const APART_MS = 10_000;
/** And are forgotten after this, ms: the rate of an hour ago is not the rate. */
const KEPT_MS = 300_000;
const MAX_SAMPLES = 6;

interface Sum {
  readonly counts: Counts;
  readonly at: Date;
  readonly samples?: readonly ProgressSample[];
}

/** The samples to keep with a new sum, given the one before it. */
export function nextSamples(before: Sum | undefined, now: Date): ProgressSample[] {
  if (before === undefined) return [];
  const samples = [...(before.samples ?? [])];
  const last = samples.at(-1);
  if (last === undefined || before.at.getTime() - last.at.getTime() >= APART_MS) {
    samples.push({ settled: settledCount(before.counts), at: before.at });
  }
  return samples.filter(({ at }) => now.getTime() - at.getTime() <= KEPT_MS).slice(-MAX_SAMPLES);
}

/**
 * The rate of the last minute or so up to `now`. Where nobody has looked within five minutes it is the average since the
 * run was opened, with all its pauses. `null`: it has only just begun, or an order has put settled recipients back.
 */
export function measuredRate(
  settled: number,
  samples: readonly ProgressSample[],
  openedAt: Date,
  now: Date,
): MeasuredRate | null {
  const recent = samples.filter(({ at }) => now.getTime() - at.getTime() <= KEPT_MS);
  const from = recent[0] ?? { settled: 0, at: openedAt };
  const overMs = now.getTime() - from.at.getTime();
  if (overMs < 1_000 || settled < from.settled) return null;
  return { perSecond: ((settled - from.settled) * 1_000) / overMs, overMs };
}
