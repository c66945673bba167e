/** This worker's sign of life, written by the server's time; each one also measures the server's clock. */
import { hostname } from 'node:os';
import type { Clock } from '../clock.ts';
import type { Logger } from '../logger.ts';
import { processInfo } from '../process-info.ts';
import type { ServerClock } from '../server-clock.ts';
import type { WorkerDoc } from '../store/documents.ts';
import type { Store } from '../store/store.ts';
import { writeHeartbeat } from '../store/workers.ts';
import { createDuty, type Duty } from './duty.ts';

const SKEW_WARN_MS = 2000;

export interface HeartbeatOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly serverClock: ServerClock;
  readonly logger: Logger;
  readonly workerId: string;
  readonly version: string;
  readonly heartbeatMs: number;
  readonly messengers: WorkerDoc['messengers'];
  readonly sources: readonly string[];
  readonly pagesHeld: () => number;
  /** Messengers that failed here and are not well again, and how long nothing is tried yet, ms. */
  readonly resting: () => readonly { readonly messenger: string; readonly forMs: number }[];
}

export interface Heartbeat extends Duty {
  /** Writes a last sign of life that says how this worker ended. */
  announce(state: WorkerDoc['state']): Promise<void>;
}

export function createHeartbeat(options: HeartbeatOptions): Heartbeat {
  const { store, clock, serverClock, logger, workerId } = options;
  const startedAt = serverClock.now();
  const processStartedAt = processInfo(process.pid)?.startedAt ?? 'unknown';
  let warned = false;
  const announce = async (state: WorkerDoc['state']): Promise<void> => {
    await serverClock.measure(() =>
      writeHeartbeat(store, workerId, {
        host: hostname(),
        pid: process.pid,
        processStartedAt,
        version: options.version,
        messengers: [...options.messengers],
        sources: [...options.sources],
        state,
        startedAt,
        pagesHeld: options.pagesHeld(),
        resting: options.resting().map(({ messenger, forMs }) => {
          return { messenger, until: new Date(serverClock.now().getTime() + forMs) };
        }),
      }),
    );
    const skewMs = serverClock.skewMs();
    if (Math.abs(skewMs) > SKEW_WARN_MS && !warned) {
      logger.warn(
        { skewMs: Math.round(skewMs) },
        "this machine's clock differs from MongoDB's; MongoDB's counts",
      );
    }
    warned = Math.abs(skewMs) > SKEW_WARN_MS;
  };
  const duty = createDuty({
    name: 'heartbeat',
    everyMs: options.heartbeatMs,
    clock,
    logger,
    run: () => announce('running'),
  });
  return { ...duty, announce };
}
