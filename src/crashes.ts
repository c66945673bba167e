/**
 * Uncaught exceptions and unhandled rejections, for apps that ask for it: what happened is written down before the process
 * ends. Invariant: the process ends as it would without this, a moment later; where the host listens for such errors itself
 * they are only written down, and what becomes of the process is the host's decision.
 */
import { systemClock } from './clock.ts';
import { crashText } from './core/crash.ts';
import { orAtDeadline } from './deadline.ts';
import type { Logger } from './logger.ts';
import type { CrashDoc } from './store/documents.ts';
import type { Journal } from './store/journal.ts';
import { recordCrash } from './store/run-heartbeats.ts';
import type { Store } from './store/store.ts';
import { noteCrash } from './store/workers.ts';

/** The process is not held up for longer, ms. */
const RECORD_MS = 2_000;

type ErrorEvent = 'uncaughtException' | 'unhandledRejection';

/** Listeners of all schedulers of this process: they are not the host's. */
const ours: Record<ErrorEvent, Set<(error: unknown) => void>> = {
  uncaughtException: new Set(),
  unhandledRejection: new Set(),
};

/** `record`: `ends` says whether the process is about to end. Returns the way to listen no more. */
export function onCrashes(record: (error: unknown, ends: boolean) => Promise<void>): () => void {
  let ending = false;
  let recording = false;
  const hear = (event: ErrorEvent, error: unknown): void => {
    const ends = process.listenerCount(event) === ours[event].size;
    if (ending || (recording && !ends)) return; // one is enough: a host that goes on may have thousands
    ending = ends;
    recording = true;
    // The system's timers: what else runs here may be what has failed.
    const recorded = orAtDeadline(record(error, ends), RECORD_MS, systemClock, () => undefined);
    const then = (): void => {
      recording = false;
      if (!ends) return;
      forget();
      passOn(event, error);
    };
    recorded.then(then, then);
  };
  const listeners = {
    uncaughtException: (error: unknown) => hear('uncaughtException', error),
    unhandledRejection: (error: unknown) => hear('unhandledRejection', error),
  };
  const forget = (): void => {
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
      process.off(event, listeners[event]);
      ours[event].delete(listeners[event]);
    }
  };
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    ours[event].add(listeners[event]);
    process.on(event, listeners[event]);
  }
  return () => {
    if (!ending) forget();
  };
}

/** Nobody listens any more: Node prints the error and ends the process, as it would have done at first. */
function passOn(event: ErrorEvent, error: unknown): void {
  if (ours[event].size > 0) return; // another scheduler of this process is still writing it down
  setImmediate(() => {
    throw error;
  });
}

export interface CrashRecorderOptions {
  readonly store: Store;
  readonly journal: Journal;
  readonly logger: Logger;
  readonly serverNow: () => Date;
  readonly workerId: string;
  /** The runs that pages are held of. */
  readonly heldRunIds: () => readonly string[];
  /** No new send starts, and no heartbeat says any more that all is well. */
  readonly quit: () => Promise<void>;
}

/** Writes it down on the runs that this worker holds pages of, in their journal, and on the worker. */
export function crashRecorder(
  options: CrashRecorderOptions,
): (error: unknown, ends: boolean) => Promise<void> {
  const { store, journal, logger, serverNow, workerId } = options;
  return async (error, ends) => {
    const runIds = options.heldRunIds();
    const crash: CrashDoc = { at: serverNow(), workerId, pid: process.pid, ...crashText(error) };
    logger.error(
      { error: crash.error, runs: runIds.length },
      'uncaught error: it is written down before the end',
    );
    const entries = runIds.map((runId) => {
      const [campaignId = ''] = runId.split(':');
      const { error: told, stack } = crash;
      return { campaignId, runId, kind: 'worker-crashed', detail: { error: told, stack, pid: process.pid } };
    });
    const noted = async (): Promise<void> => {
      if (ends) await options.quit();
      await noteCrash(store, crash, ends);
    };
    await Promise.allSettled([recordCrash(store, runIds, crash), journal.write(...entries), noted()]);
  };
}
