/**
 * The shape of a background duty: `runOnce` does the work, a timer only calls it. Start and stop are idempotent and safe in
 * any order. A round that fails is logged once per streak, and the schedule goes on.
 */
import type { Clock } from '../clock.ts';
import type { Logger } from '../logger.ts';

export interface Duty {
  readonly name: string;
  start(): void;
  /** Resolves when a round under way has ended. */
  stop(): Promise<void>;
  runOnce(): Promise<void>;
}

export function createDuty(options: {
  readonly name: string;
  readonly everyMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly run: () => Promise<void>;
}): Duty {
  const { name, everyMs, clock, logger, run } = options;
  let cancel: (() => void) | undefined;
  let running: Promise<void> | undefined;
  let failing = false;

  const round = async (): Promise<void> => {
    try {
      await run();
      if (failing) logger.info({ duty: name }, 'background duty works again');
      failing = false;
    } catch (error) {
      if (!failing) logger.warn({ duty: name, error }, 'background duty failed; it goes on');
      failing = true;
    }
  };
  const runOnce = (): Promise<void> => {
    running ??= round().finally(() => {
      running = undefined;
    });
    return running;
  };
  const next = (): void => {
    cancel = clock.schedule(everyMs, () => {
      void runOnce().then(() => {
        if (cancel !== undefined) next();
      });
    });
  };
  return {
    name,
    start: () => {
      if (cancel === undefined) next();
    },
    stop: async () => {
      cancel?.();
      cancel = undefined;
      await running;
    },
    runOnce,
  };
}
