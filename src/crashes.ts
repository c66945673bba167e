/**
 * Uncaught exceptions and unhandled rejections, for apps that ask for it: what happened is written down before the process
 * ends. Invariant: the process ends as it would without this, a moment later; where the host listens for such errors itself
 * they are only written down, and what becomes of the process is the host's decision. A process that lives goes on working.
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

/** What a scheduler does about an error that nobody caught. */
export interface CrashListener {
  /** `ends`: the process is about to end. */
  record(error: unknown, ends: boolean): Promise<void>;
  /** It has not ended after all. */
  goOn(): void;
}

/** Of all schedulers of this process. They share one listener of the process for each event. */
const listeners = new Set<CrashListener>();
let recording = false;
let ending = false;

/** Returns the way to listen no more. */
export function onCrashes(listener: CrashListener): () => void {
  if (listeners.size === 0 && !ending) listen();
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0 && !ending) listenNoMore();
  };
}

function listen(): void {
  process.on('uncaughtException', onException);
  process.on('unhandledRejection', onRejection);
}

function listenNoMore(): void {
  process.off('uncaughtException', onException);
  process.off('unhandledRejection', onRejection);
}

function onException(error: unknown): void {
  hear(error, process.listenerCount('uncaughtException') === 1);
}

function onRejection(error: unknown): void {
  if (process.listenerCount('unhandledRejection') > 1) return hear(error, false);
  // Whoever listens keeps Node from treating it as it would have: as an uncaught exception, or as it was started to.
  process.off('unhandledRejection', onRejection);
  void Promise.reject(error);
  setImmediate(() => {
    if (process.listeners('uncaughtException').includes(onException))
      process.on('unhandledRejection', onRejection);
  });
}

function hear(error: unknown, ends: boolean): void {
  if (ending || (recording && !ends)) return; // one is enough: a host that goes on may have thousands
  ending = ends;
  recording = true;
  // A timer that keeps the process: it must not end, as if all were well, because nothing else is left.
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, RECORD_MS);
  });
  const recorded = Promise.allSettled([...listeners].map((listener) => listener.record(error, ends)));
  void Promise.race([recorded, late]).then(() => {
    clearTimeout(timer);
    recording = false;
    if (ends) end(error);
  });
}

/** Nobody listens any more: Node prints the error and ends the process, as it would have done at first. */
function end(error: unknown): void {
  listenNoMore();
  setImmediate(() => {
    throw error;
  });
  setImmediate(() => {
    // Still here: the host has begun to listen meanwhile.
    ending = false;
    if (listeners.size > 0) listen();
    for (const listener of listeners) listener.goOn();
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
