/** Waiting with an end: the work is not cancelled at the deadline, only no longer waited for. */
import type { Clock } from './clock.ts';

/** What `work` settles with, or what `late` returns or throws once `ms` have passed. */
export async function orAtDeadline<T>(work: Promise<T>, ms: number, clock: Clock, late: () => T): Promise<T> {
  let cancel = () => {};
  const deadline = new Promise<void>((resolve) => {
    cancel = clock.schedule(ms, resolve);
  }).then(late);
  try {
    return await Promise.race([work, deadline]);
  } finally {
    cancel();
  }
}
