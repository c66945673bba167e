/**
 * SIGTERM and SIGINT for apps that ask for it: the first one stops in order, the second one forces. The process is ended
 * here only when the host listens for the signal nowhere else.
 */
import type { Logger } from './logger.ts';

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

export function onSignals(options: {
  readonly stop: () => Promise<void>;
  readonly force: () => void;
  readonly logger: Logger;
}): () => void {
  const { stop, force, logger } = options;
  let stopping = false;
  const forget = (): void => {
    for (const signal of SIGNALS) process.off(signal, listener);
  };
  const listener = (signal: NodeJS.Signals): void => {
    const alone = process.listenerCount(signal) === 1;
    if (stopping) {
      logger.warn({ signal }, 'second signal: what is in flight is abandoned');
      force();
      if (alone) process.exit(1);
      return;
    }
    stopping = true;
    logger.info({ signal }, 'stopping: no more work is taken, sends in flight end');
    stop().then(
      () => {
        forget();
        if (alone) process.exit(0);
      },
      (error: unknown) => {
        logger.error({ error }, 'stopping failed');
        if (alone) process.exit(1);
      },
    );
  };
  for (const signal of SIGNALS) process.on(signal, listener);
  // A stop that was not asked for by a signal ends the listening; one that was keeps it for the second signal.
  return () => {
    if (!stopping) forget();
  };
}
