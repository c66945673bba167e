/**
 * How far a run is, as its document tells everybody who looks. Pure. Invariant: `done` never exceeds `total`, and 100
 * percent means that everybody is accounted for.
 */
import { type Counts, settledCount } from './ledger-page.ts';

export interface Checkpoint {
  /** Sent, failed, skipped or unknown. */
  readonly done: number;
  readonly total: number;
  readonly sent: number;
  readonly failed: number;
  /** Failed and unknown ones together: those a person may want to look at. */
  readonly errors: number;
  /** Somebody is left: it goes on here after a crash, a pause or a stop. */
  readonly canResume: boolean;
}

export function checkpointOf(counts: Counts, total: number): Checkpoint {
  const done = Math.min(total, settledCount(counts));
  const { sent, failed, unknown } = counts;
  return { done, total, sent, failed, errors: failed + unknown, canResume: done < total };
}

/** `23/118` */
export const progressText = ({ done, total }: Checkpoint): string => `${done}/${total}`;

/** Whole percent, rounded down. */
export const percentOf = ({ done, total }: Checkpoint): number =>
  total === 0 ? 100 : Math.floor((100 * done) / total);
