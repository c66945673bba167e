/** The lease of whoever freezes an audience: renewed while the work goes on, and the work ends when it is lost. */
import type { Clock } from '../clock.ts';
import { touchAudience } from '../store/audiences.ts';
import type { Store } from '../store/store.ts';

/**
 * Renews every third of `claimTtlMs`, and tells how many rows have been read; aborts when the lease is taken or cannot be
 * renewed in time. Returns the end of it.
 */
export function keepLease(
  options: { readonly store: Store; readonly clock: Clock; readonly claimTtlMs: number },
  audienceId: string,
  token: string,
  controller: AbortController,
  progress?: { readonly rows: number },
): () => void {
  const { store, clock, claimTtlMs } = options;
  let seq = 0;
  let renewedAt = clock.monotonic();
  let stopped = false;
  let cancel = (): void => undefined;
  const renew = async (): Promise<void> => {
    const started = clock.monotonic();
    seq += 1;
    try {
      if (await touchAudience(store, audienceId, token, seq, progress?.rows)) renewedAt = started;
      else controller.abort(new Error('another worker has taken over'));
    } catch {
      // the database is away; the lease runs out by itself
    }
    if (clock.monotonic() - renewedAt > claimTtlMs)
      controller.abort(new Error('the lease could not be renewed in time'));
  };
  const next = (): void => {
    cancel = clock.schedule(claimTtlMs / 3, () => {
      void renew().then(() => {
        if (!stopped && !controller.signal.aborted) next();
      });
    });
  };
  next();
  return () => {
    stopped = true;
    cancel();
  };
}
