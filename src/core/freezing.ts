/**
 * When a source that failed is read again. Pure: the freezer acts on it, and `why` tells it, so both always agree.
 */

/** After so many failed attempts the run is given up. */
export const MAX_FREEZE_ATTEMPTS = 5;
const RETRY_FIRST_MS = 5000;
const RETRY_MAX_MS = 300_000;

/** How long a source may give no row before its attempt has failed, ms: twice as long each time, so that a slow one gets through. */
export function freezePatienceMs(attempt: number, stuckAfterMs: number): number {
  return stuckAfterMs * 2 ** Math.min(MAX_FREEZE_ATTEMPTS - 1, Math.max(0, attempt - 1));
}

/** How long after the last of so many failures the source is read again, ms: 5 s, doubling, up to 5 minutes. */
export function freezeRetryMs(failures: number): number {
  return Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.max(0, failures - 1));
}
