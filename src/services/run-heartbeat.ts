/**
 * The signs of life of the runs that this worker holds pages of, or has held since the last round. Invariant: a round is
 * one question for those that need one, one sum and one write for all of them together, and summing takes at most a
 * twentieth of the time: where ledgers are so large that it would take more, heartbeats go on with the sums of before.
 */
import type { Clock } from '../clock.ts';
import { checkpointOf } from '../core/checkpoint.ts';
import type { HeldRunBeat } from '../delivery/hold-environment.ts';
import type { Logger } from '../logger.ts';
import { type RunBeat, silentRuns, sumManyRuns, writeRunHeartbeats } from '../store/run-heartbeats.ts';
import type { Store } from '../store/store.ts';
import { createDuty, type Duty } from './duty.ts';

const SHARE_OF_TIME = 20;

export interface RunHeartbeatOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly workerId: string;
  readonly heartbeatMs: number;
  /** The runs with a page that was held here since the last call. */
  readonly takeHeldRuns: () => readonly HeldRunBeat[];
}

export function createRunHeartbeat(options: RunHeartbeatOptions): Duty {
  const { store, clock, workerId, heartbeatMs } = options;
  let sumAgainAt = Number.NEGATIVE_INFINITY;

  const run = async (): Promise<void> => {
    const held = options.takeHeldRuns();
    if (held.length === 0) return;
    const silentMs = heartbeatMs / 2;
    const silent = await silentRuns(
      store,
      held.map(({ runId }) => runId),
      silentMs,
    );
    if (silent.length === 0) return;
    const from = clock.monotonic();
    const counts = from < sumAgainAt ? undefined : await sumManyRuns(store, silent);
    if (counts !== undefined) {
      const now = clock.monotonic();
      sumAgainAt = now + SHARE_OF_TIME * (now - from);
    }
    // A run may be held twice: a page that was taken over before the run was seen to be open counts apart.
    const recipients = new Map(
      held.filter(({ recipient }) => recipient !== null).map(({ runId, recipient }) => [runId, recipient]),
    );
    const beats = silent.map(({ _id, total = 0, heartbeat }): RunBeat => {
      const sums = counts?.get(_id);
      const checkpoint = sums && checkpointOf(sums, total);
      return {
        runId: _id,
        before: heartbeat?.at,
        recipient: recipients.get(_id) ?? null,
        workerId,
        checkpoint,
      };
    });
    await writeRunHeartbeats(store, beats);
  };
  return createDuty({ name: 'run-heartbeat', everyMs: heartbeatMs, clock, logger: options.logger, run });
}
