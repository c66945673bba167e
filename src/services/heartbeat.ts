/**
 * This worker's sign of life, written by the server's time; each one also measures the server's clock. Invariant: a worker
 * that has not been heard of for too long sends nothing. The others may believe that it is gone; it counts by its own
 * monotonic timer, from the start of the last heartbeat that was acknowledged, so nobody has to tell it.
 */
import { hostname, loadavg } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Clock } from '../clock.ts';
import type { Logger } from '../logger.ts';
import { processInfo } from '../process-info.ts';
import type { ServerClock } from '../server-clock.ts';
import type { WorkerDoc } from '../store/documents.ts';
import type { Store } from '../store/store.ts';
import { writeHeartbeat } from '../store/workers.ts';
import { createDuty, type Duty } from './duty.ts';

const SKEW_WARN_MS = 2000;
/** While it is silent it tries this often to be heard, ms. */
const SILENT_RETRY_MS = 1000;
/** How exactly the delay of the event loop is measured, ms. */
const LOOP_RESOLUTION_MS = 20;

/** What is told of the work. */
export interface WorkState {
  readonly pagesHeld: number;
  readonly inFlight: number;
  /** Messengers that failed here and are not well again, and how long nothing is tried yet, ms. */
  readonly resting: readonly { readonly messenger: string; readonly forMs: number }[];
  suspend(): void;
  resume(): void;
}

export interface HeartbeatOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly serverClock: ServerClock;
  readonly logger: Logger;
  readonly workerId: string;
  readonly version: string;
  readonly heartbeatMs: number;
  /** After so long without being heard it sends nothing, ms. */
  readonly silentAfterMs: number;
  readonly messengers: WorkerDoc['messengers'];
  readonly sources: readonly string[];
  readonly sharing: WorkState;
  readonly onSilent: (forMs: number) => void;
  readonly onHeard: () => void;
}

export interface Heartbeat extends Duty {
  /** Writes a sign of life that says how this worker ends. `stopping` stands until it has stopped. */
  announce(state: WorkerDoc['state']): Promise<void>;
  /** A page has just been written, with what became of so many recipients. */
  noteFlush(recorded: number): void;
  /** When a page was written last, monotonic; undefined: none was. */
  flushedAt(): number | undefined;
  /** How long ago the last heartbeat began that was acknowledged, ms; null: none was. */
  ageMs(): number | null;
  /** The longest that the event loop was late since the last heartbeat, ms. */
  eventLoopDelayMs(): number;
}

export function createHeartbeat(options: HeartbeatOptions): Heartbeat {
  const { store, clock, serverClock, logger, workerId, sharing, silentAfterMs } = options;
  const startedAt = serverClock.now();
  const processStartedAt = processInfo(process.pid)?.startedAt ?? 'unknown';
  const loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  let lastProgressAt: Date | null = null;
  let flushedAt: number | undefined; // monotonic
  let heardAt: number | undefined; // monotonic
  let silent = false;
  let started = false;
  let warned = false;
  let present: 'running' | 'stopping' = 'running';
  let cancelWatch = (): void => undefined;

  const watch = (ms: number): void => {
    cancelWatch();
    cancelWatch = clock.schedule(ms, () => {
      if (!silent) {
        silent = true;
        const forMs = Math.round(ageMs() ?? 0);
        logger.warn({ forMs }, 'no heartbeat could be written for too long: nothing is sent until one is');
        sharing.suspend();
        options.onSilent(forMs);
      }
      watch(SILENT_RETRY_MS);
      void duty.runOnce();
    });
  };
  const heard = (since: number): void => {
    heardAt = since;
    if (started) watch(Math.max(0, silentAfterMs - (clock.monotonic() - since)));
    if (!silent) return;
    silent = false;
    logger.info({}, 'a heartbeat was written again: sending goes on');
    sharing.resume();
    options.onHeard();
  };
  const ageMs = (): number | null => (heardAt === undefined ? null : clock.monotonic() - heardAt);
  /** Measured, and in no heartbeat yet: what comes while one is being written is for the next. */
  let untoldDelayMs = 0;
  const eventLoopDelayMs = (): number =>
    Math.max(untoldDelayMs, Math.round(loop.max / 1e6) - LOOP_RESOLUTION_MS);

  const announce = async (state: WorkerDoc['state']): Promise<void> => {
    if (state === 'stopping') present = state;
    let since = clock.monotonic();
    // After a standstill this timer may ring before the one that measures it.
    await new Promise<void>((resolve) => setImmediate(resolve));
    const delayMs = eventLoopDelayMs();
    untoldDelayMs = delayMs;
    loop.reset();
    const { rss, heapUsed } = process.memoryUsage();
    await serverClock.measure(() => {
      since = clock.monotonic();
      return writeHeartbeat(store, workerId, {
        host: hostname(),
        pid: process.pid,
        processStartedAt,
        version: options.version,
        messengers: [...options.messengers],
        sources: [...options.sources],
        state,
        startedAt,
        pagesHeld: sharing.pagesHeld,
        inFlight: sharing.inFlight,
        lastProgressAt,
        load: loadavg()[0] ?? 0,
        memory: { rssBytes: rss, heapUsedBytes: heapUsed },
        eventLoopDelayMs: delayMs,
        clockSkewMs: Math.round(serverClock.skewMs()),
        resting: sharing.resting.map(({ messenger, forMs }) => {
          return { messenger, until: new Date(serverClock.now().getTime() + forMs) };
        }),
      });
    });
    untoldDelayMs = 0;
    if (state === present) heard(since);
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
    run: () => announce(present),
  });
  return {
    ...duty,
    start: () => {
      if (started) return;
      started = true;
      loop.enable();
      watch(silentAfterMs);
      duty.start();
    },
    stop: async () => {
      started = false;
      cancelWatch();
      await duty.stop();
      if (!started) loop.disable();
    },
    announce,
    noteFlush: (recorded) => {
      flushedAt = clock.monotonic();
      if (recorded > 0) lastProgressAt = serverClock.now();
    },
    flushedAt: () => flushedAt,
    ageMs,
    eventLoopDelayMs,
  };
}
