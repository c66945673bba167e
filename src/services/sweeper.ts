/**
 * Sweeps what abandoned attempts left: audiences that no campaign and no run names, and ledger pages laid for runs that
 * ended before they had an audience. Invariant: an audience is declared dead by a guarded write before the first of its
 * pages goes, and it stays dead for an hour, so that pages which a stalled worker writes late go too; a ledger page goes
 * only where nobody has ever held it.
 */
import type { Clock } from '../clock.ts';
import type { Logger } from '../logger.ts';
import {
  deleteAudience,
  deleteAudiencePages,
  markSwept,
  silentAudiences,
  staleAudiences,
  sweepAudience,
  touchNamed,
} from '../store/audiences.ts';
import { namesAudience } from '../store/campaigns.ts';
import { takeLease } from '../store/leases.ts';
import { deleteUntouchedPages } from '../store/ledger-pages.ts';
import { markUnbegunSwept, runNamesAudience, unbegunRuns, unfinishedFreezing } from '../store/runs.ts';
import type { Store } from '../store/store.ts';
import { createDuty, type Duty } from './duty.ts';

const EVERY_MS = 10 * 60_000;
const LEASE_MS = 5 * 60_000;
const SILENT_MS = 3_600_000;
const UNNAMED_MS = 24 * 3_600_000;
const GRACE_MS = 3_600_000;

export function createSweeper(options: {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly workerId: string;
}): Duty {
  const { store, clock, logger, workerId } = options;
  return createDuty({
    name: 'sweeper',
    everyMs: EVERY_MS,
    clock,
    logger,
    run: async () => {
      if (!(await takeLease(store, 'sweeper', workerId, workerId, LEASE_MS))) return;
      await sweep(store, logger);
    },
  });
}

/** One sweep. Exported for the command line and for tests, which set the ages. */
export async function sweep(
  store: Store,
  logger: Logger,
  ages: { silentMs: number; unnamedMs: number; graceMs: number } = {
    silentMs: SILENT_MS,
    unnamedMs: UNNAMED_MS,
    graceMs: GRACE_MS,
  },
): Promise<number> {
  let swept = 0;
  // Whoever froze these gave no sign of life for long; a run's own attempts are ended by the workers that watch them.
  for (const audience of await silentAudiences(store, ages.silentMs)) await sweepAudience(store, audience);
  for (const audience of await staleAudiences(store, 'ready', ages.unnamedMs)) {
    const named =
      (await namesAudience(store, audience._id)) ||
      (await runNamesAudience(store, audience._id)) ||
      (audience.owner.kind === 'run' && (await unfinishedFreezing(store, audience.owner.runId)));
    if (named) await touchNamed(store, audience);
    else await sweepAudience(store, audience);
  }
  // A failed attempt counts as long as its run is still freezing.
  for (const audience of await staleAudiences(store, 'failed', ages.graceMs)) {
    const counts = audience.owner.kind === 'run' && (await unfinishedFreezing(store, audience.owner.runId));
    if (!counts) await sweepAudience(store, audience);
  }
  for (const audience of await staleAudiences(store, 'dead', 0, false)) {
    await deleteAudiencePages(store, audience._id);
    await markSwept(store, audience);
    swept += 1;
  }
  for (const audience of await staleAudiences(store, 'dead', ages.graceMs, true)) {
    await deleteAudiencePages(store, audience._id);
    await deleteAudience(store, audience);
  }
  await sweepUnbegun(store, ages.graceMs);
  if (swept > 0) logger.info({ audiences: swept }, 'abandoned audiences swept');
  return swept;
}

/** Whoever laid pages for such a run takes them away again, unless it died: after the grace nobody is still about it. */
export async function sweepUnbegun(store: Store, graceMs: number): Promise<void> {
  const runIds = await unbegunRuns(store, graceMs);
  if (runIds.length === 0) return;
  await deleteUntouchedPages(store, runIds);
  await markUnbegunSwept(store, runIds);
}
