/**
 * Recovery: finds scheduled and processing campaigns that nothing would move, and moves them; this file says when, and who.
 * Invariant: a full pass is done once for the cluster, under a lease, and who asks meanwhile gets its report; a lease whose
 * holder died is taken by the next.
 */
import { randomUUID } from 'node:crypto';
import type { ObjectId } from 'mongodb';
import type { Clock } from '../clock.ts';
import type { Holders } from '../core/recovery.ts';
import { mergeAllUnheld } from '../delivery/late-truths.ts';
import { CampaignSchedulerError } from '../errors.ts';
import { readLease, releaseLease, takeLease } from '../store/leases.ts';
import { heldRuns } from '../store/ledger-claims.ts';
import { liveWorkers } from '../store/workers.ts';
import { createDuty, type Duty } from './duty.ts';
import { RecoveryPass, type RecoveryPassOptions, type RecoveryReport } from './recovery-pass.ts';

export interface RecoveryOptions extends RecoveryPassOptions {
  readonly clock: Clock;
  readonly workerId: string;
  readonly heartbeatMs: number;
  readonly recoverEveryMs: number;
}

export interface Recovery extends Duty {
  /** A full pass over all scheduled and processing campaigns; joins one that is under way anywhere in the cluster. */
  recover(options?: { readonly atBoot?: boolean }): Promise<RecoveryReport>;
}

const LEASE = 'recovery';
const LEASE_MS = 30_000;
const WAIT_MS = 100;
const SOON_MS = 120_000;

export function createRecovery(options: RecoveryOptions): Recovery {
  const { store, clock, serverNow, logger } = options;
  let position: ObjectId | undefined; // of the rolling look at campaigns that are not due soon
  let full: Promise<RecoveryReport> | undefined;
  let stopping = false;
  const goOn = (): void => {
    if (stopping) throw new CampaignSchedulerError('stopped', 'This scheduler is stopping.');
  };

  const duty = createDuty({
    name: 'recovery',
    everyMs: options.recoverEveryMs,
    clock,
    logger,
    run: async () => {
      const pass = new RecoveryPass(options, await readHolders(options), false);
      const soon = new Date(serverNow().getTime() + SOON_MS);
      await pass.all('processing');
      await pass.all('scheduled', soon);
      await pass.all('scheduled', null); // what another program wrote has no `nextRunAt`
      position = await pass.some('scheduled', position);
      await mergeAllUnheld(store);
      pass.tell();
    },
  });

  const recover = async (atBoot: boolean): Promise<RecoveryReport> => {
    for (;;) {
      const token = randomUUID();
      if (await takeLease(store, LEASE, options.workerId, token, LEASE_MS)) {
        const pass = new RecoveryPass(options, await readHolders(options, atBoot), true, async () => {
          goOn();
          await takeLease(store, LEASE, options.workerId, token, LEASE_MS);
        });
        try {
          await pass.all('processing');
          await pass.all('scheduled');
          pass.tell();
          await releaseLease(store, LEASE, token, pass.report);
          return pass.report;
        } catch (error) {
          await releaseLease(store, LEASE, token, null).catch(() => undefined);
          throw error;
        }
      }
      const report = await othersReport();
      if (report !== undefined) return report;
    }
  };

  /** Waits for the pass that is under way. Undefined: it ended without a report (its worker died), or another began. */
  const othersReport = async (): Promise<RecoveryReport | undefined> => {
    const first = await readLease(store, LEASE);
    for (;;) {
      goOn();
      const lease = await readLease(store, LEASE);
      if (lease === null || lease.token !== first?.token) return undefined;
      if (lease.report != null) return lease.report as RecoveryReport;
      if (lease.expiresAt.getTime() <= serverNow().getTime()) return undefined;
      await new Promise<void>((resolve) => setTimeout(resolve, WAIT_MS));
    }
  };

  return {
    ...duty,
    stop: async () => {
      stopping = true;
      await duty.stop();
      await full?.catch(() => undefined);
    },
    recover: ({ atBoot = false } = {}) => {
      full ??= recover(atBoot).finally(() => {
        full = undefined;
      });
      return full;
    },
  };
}

/**
 * Who is alive: a recent sign of life, and where it is this machine's, a process that exists. At boot, what this worker
 * holds already is what it has just resumed.
 */
async function readHolders(
  { store, heartbeatMs, workerId }: RecoveryOptions,
  atBoot = false,
): Promise<Holders> {
  const alive = await liveWorkers(store, heartbeatMs * 3);
  const ids = new Set([workerId, ...alive.map((worker) => worker._id)]);
  const holders = [...ids].filter((id) => !atBoot || id !== workerId);
  return { workers: ids, runs: await heldRuns(store, holders) };
}
