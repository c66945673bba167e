/**
 * One Agenda from its start to its stop. An Agenda cannot be started twice, so neither can a session.
 *
 * Invariant: `stop` may come at any time, also before or during the start; the gate closes at once, and what `stop`
 * resolves to tells whether anything of this session may still write.
 */
import { Agenda } from 'agenda';
import type { Clock } from '../clock.ts';
import { orAtDeadline } from '../deadline.ts';
import { CampaignSchedulerError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { ALARM_NAMES, type AlarmName } from './alarm.ts';
import { alarmBackend } from './alarm-backend.ts';
import { type AlarmHandler, ringing } from './alarm-handler.ts';
import { AlarmRepository, type AlarmRepositoryOptions } from './alarm-repository.ts';
import { warnOncePer } from './quiet-logger.ts';

export interface AlarmSessionOptions extends Omit<AlarmRepositoryOptions, 'limitPerName'> {
  workerId: string;
  concurrency: number;
  handlers: Record<AlarmName, AlarmHandler>;
  serverNow: () => Date;
  /** Makes the collection usable, within a deadline of its own. */
  prepare: () => Promise<void>;
  /** Settles when the session before this one has ended. */
  after: Promise<unknown>;
}

export interface AlarmSession {
  /** Resolves when alarms ring; rejects with `stopped` when `stop` came first, or with what `prepare` threw. */
  readonly started: Promise<void>;
  /** When a look for alarms was answered last, monotonic; undefined: none was. */
  lookedAt(): number | undefined;
  /** Resolves to true when every run has ended and been recorded, to false at the deadline. Never rejects. */
  stop(timeoutMs: number): Promise<boolean>;
}

const REPEATED_ERROR_MS = 60_000;

export function openAlarmSession(options: AlarmSessionOptions): AlarmSession {
  const { clock, logger } = options;
  const repository = new AlarmRepository({ ...options, limitPerName: options.concurrency });
  let agenda: Agenda | undefined;
  let stopping: Promise<boolean> | undefined;

  async function start(): Promise<void> {
    await options.after;
    assertNotStopped();
    const backend = alarmBackend(repository, options.prepare);
    const fresh = new Agenda({
      backend,
      name: options.workerId,
      processEvery: options.processEveryMs,
      defaultLockLifetime: options.lockLifetimeMs,
      defaultConcurrency: options.concurrency,
      maxConcurrency: options.concurrency * ALARM_NAMES.length,
    });
    fresh.on('error', reportingErrors(logger, clock));
    await backend.connected;
    assertNotStopped();
    for (const name of ALARM_NAMES) {
      fresh.define(name, ringing({ ...options, name, handler: options.handlers[name] }));
    }
    agenda = fresh;
    await fresh.start();
  }

  function assertNotStopped(): void {
    if (stopping !== undefined)
      throw new CampaignSchedulerError('stopped', 'The alarms were stopped before they had started');
  }

  async function end(timeoutMs: number): Promise<boolean> {
    repository.closeGate();
    const ended = await orAtDeadline<boolean>(handOver(), timeoutMs, clock, () => false);
    if (!ended)
      logger.warn({ held: repository.locks.size, timeoutMs }, 'alarms still ringing after the stop');
    return ended;
  }

  async function handOver(): Promise<boolean> {
    await started.catch(() => {});
    await agenda?.stop(false); // rejects never: giving back locks does not throw
    await repository.locks.whenIdle();
    return true;
  }

  const started = start();
  started.catch(() => {}); // the caller is told; nobody has to listen
  return {
    started,
    lookedAt: () => repository.lookedAt,
    stop: (timeoutMs) => {
      stopping ??= end(timeoutMs);
      return stopping;
    },
  };
}

function reportingErrors(logger: Logger, clock: Clock): (error: Error) => void {
  const warn = warnOncePer(REPEATED_ERROR_MS, logger, clock);
  return (error) => {
    if (error instanceof CampaignSchedulerError && error.code === 'stopped') return;
    warn(error, 'alarms: an error in Agenda; it goes on');
  };
}
