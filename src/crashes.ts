/**
 * Uncaught exceptions and unhandled rejections, for apps that ask for it: what happened is written down before the process
 * ends. Invariant: the process ends as it would without this, a moment later; where the host listens for such errors itself
 * they are only written down, and what becomes of the process is the host's decision.
 */
import { crashText } from './core/crash.ts';
import type { Logger } from './logger.ts';
import type { CrashDoc } from './store/documents.ts';
import type { Journal } from './store/journal.ts';
import { recordCrash } from './store/run-heartbeats.ts';
import type { Store } from './store/store.ts';
import { noteCrash } from './store/workers.ts';

/** The process is not held up for longer, ms. */
const RECORD_MS = 2_000;

type Listener = (error: unknown) => void;

/** Listeners of all schedulers of this process: they are not the host's. */
const exceptions = new Set<Listener>();
const rejections = new Set<Listener>();

/** `record`: `ends` says whether the process is about to end. Returns the way to listen no more. */
export function onCrashes(record: (error: unknown, ends: boolean) => Promise<void>): () => void {
  let ending = false;
  let recording = false;
  const writeDown = (error: unknown, ends: boolean, then: () => void): void => {
    if (ending || (recording && !ends)) return; // one is enough: a host that goes on may have thousands
    ending = ends;
    recording = true;
    // A timer that keeps the process: it must not end, as if all were well, because nothing else is left.
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, RECORD_MS);
    });
    const over = (): void => {
      clearTimeout(timer);
      recording = false;
      then();
    };
    Promise.race([record(error, ends), late]).then(over, over);
  };
  const onException = (error: unknown): void => {
    const ends = process.listenerCount('uncaughtException') === exceptions.size;
    writeDown(error, ends, () => {
      if (!ends) return;
      forget();
      if (exceptions.size === 0) throwAnew(error); // or another scheduler is still writing it down
    });
  };
  const onRejection = (error: unknown): void => {
    if (process.listenerCount('unhandledRejection') > rejections.size)
      writeDown(error, false, () => undefined);
    // Where nobody else listens Node makes an exception of it, which the host may listen for.
    else if ([...rejections][0] === onRejection) throwAnew(error);
  };
  const forget = (): void => {
    process.off('uncaughtException', onException);
    process.off('unhandledRejection', onRejection);
    exceptions.delete(onException);
    rejections.delete(onRejection);
  };
  exceptions.add(onException);
  rejections.add(onRejection);
  process.on('uncaughtException', onException);
  process.on('unhandledRejection', onRejection);
  return () => {
    if (!ending) forget();
  };
}

/** Where nobody listens Node prints the error and ends the process, as it would have done at first. */
function throwAnew(error: unknown): void {
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
    try {
      logger.error({ error: crash.error, runs: runIds.length }, 'uncaught error: it is being written down');
    } catch {
      // the logger may be what has failed
    }
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
