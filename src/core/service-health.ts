/**
 * Is this process well? Pure: facts in, a verdict of each part out. Invariant: only what restarting this process may heal,
 * or what makes it useless, is `sick`; a provider that is away is `degraded`, because no restart here brings it back, and so
 * is a database that is away for no longer than a failover takes: else all processes would be restarted at once.
 */

export type PartStatus = 'ok' | 'degraded' | 'sick';

interface Part {
  readonly status: PartStatus;
  /** For people, where it is not `ok`. */
  readonly reason?: string;
}

export interface ServiceHealth {
  /** `unhealthy`: the database or the queue is sick. `degraded`: it works, but not all of it. */
  readonly status: 'healthy' | 'degraded' | 'unhealthy';
  readonly timestamp: Date;
  readonly services: {
    readonly database: Part & {
      /** How long ago MongoDB last answered anything, ms. */
      readonly answeredMsAgo: number;
      /** Round trip of the last ping that was answered, ms; null: none was yet. */
      readonly latencyMs: number | null;
    };
    readonly queue: Part & QueueFacts;
    /** By name: those of this process. */
    readonly messengers: Readonly<Record<string, Part>>;
  };
}

/** Ages in ms; null where it has not happened yet. */
export interface WorkerQueueFacts {
  readonly worker: true;
  /** Since due alarms were looked for. */
  readonly alarmsMsAgo: number;
  /** Since open campaigns were looked for. */
  readonly workMsAgo: number;
  /** Since a page was written, while pages are held; null: there is nothing to write. */
  readonly flushMsAgo: number | null;
  readonly heartbeatMsAgo: number;
  readonly eventLoopDelayMs: number;
  readonly pagesHeld: number;
  readonly inFlight: number;
}

/** A process that only serves the API: others do the work. */
export interface ApiQueueFacts {
  readonly worker: false;
  /** Some worker of the cluster lives; null: not known. */
  readonly liveWorker: boolean | null;
}

export type QueueFacts = WorkerQueueFacts | ApiQueueFacts;

export interface ServiceFacts {
  readonly now: Date;
  readonly database: {
    readonly answeredMsAgo: number;
    readonly latencyMs: number | null;
    /** Pings in a row that were not answered in time, or with an error. */
    readonly unanswered: number;
  };
  readonly queue: QueueFacts;
  readonly messengers: readonly { readonly name: string; readonly sick?: string | undefined }[];
}

export interface ServiceLimits {
  readonly alarmsMs: number;
  readonly workMs: number;
  readonly flushMs: number;
  readonly heartbeatMs: number;
}

/** A database that was not heard for longer is no failover any more (by default an election begins after 10 s), ms. */
const AWAY_MS = 15_000;
/** A ping slower than this shows a database that has trouble, ms. */
const SLOW_PING_MS = 500;
/** An event loop that was late by so much shows a process that has trouble, ms. */
const LATE_LOOP_MS = 1_000;

export function judgeService(facts: ServiceFacts, limits: ServiceLimits): ServiceHealth {
  const database = { ...databasePart(facts.database), ...shownDatabase(facts.database) };
  const queue = { ...queuePart(facts.queue, limits), ...facts.queue };
  const messengers = Object.fromEntries(
    facts.messengers.map(({ name, sick }): [string, Part] => [
      name,
      sick === undefined ? { status: 'ok' } : { status: 'sick', reason: sick },
    ]),
  );
  const parts = [database.status, queue.status];
  const isDegraded =
    parts.includes('degraded') || Object.values(messengers).some(({ status }) => status !== 'ok');
  const status = parts.includes('sick') ? 'unhealthy' : isDegraded ? 'degraded' : 'healthy';
  return { status, timestamp: facts.now, services: { database, queue, messengers } };
}

function shownDatabase({ answeredMsAgo, latencyMs }: ServiceFacts['database']) {
  return { answeredMsAgo: Math.round(answeredMsAgo), latencyMs: latencyMs && Math.round(latencyMs) };
}

function databasePart({ answeredMsAgo, latencyMs, unanswered }: ServiceFacts['database']): Part {
  if (unanswered > 0) {
    const isAway = unanswered > 1 && answeredMsAgo > AWAY_MS;
    const reason = `MongoDB does not answer; it last did ${tenthsOfSeconds(answeredMsAgo)} ago.`;
    return { status: isAway ? 'sick' : 'degraded', reason };
  }
  if (latencyMs !== null && latencyMs > SLOW_PING_MS) {
    return { status: 'degraded', reason: `MongoDB took ${tenthsOfSeconds(latencyMs)} to answer a ping.` };
  }
  return { status: 'ok' };
}

function queuePart(facts: QueueFacts, limits: ServiceLimits): Part {
  if (!facts.worker) {
    if (facts.liveWorker !== false) return { status: 'ok' };
    return { status: 'degraded', reason: 'No worker is alive: nothing is sent until one is started.' };
  }
  const { alarmsMsAgo, workMsAgo, flushMsAgo, heartbeatMsAgo, eventLoopDelayMs } = facts;
  const sick = (reason: string): Part => ({ status: 'sick', reason });
  if (heartbeatMsAgo > limits.heartbeatMs)
    return sick(
      `No heartbeat was written for ${tenthsOfSeconds(heartbeatMsAgo)}: this worker sends nothing.`,
    );
  if (alarmsMsAgo > limits.alarmsMs)
    return sick(`Alarms have not been looked for since ${tenthsOfSeconds(alarmsMsAgo)} ago.`);
  if (workMsAgo > limits.workMs)
    return sick(`Work has not been looked for since ${tenthsOfSeconds(workMsAgo)} ago.`);
  if (flushMsAgo !== null && flushMsAgo > limits.flushMs)
    return sick(`Pages are held, but none could be written for ${tenthsOfSeconds(flushMsAgo)}.`);
  if (eventLoopDelayMs > LATE_LOOP_MS)
    return { status: 'degraded', reason: `The event loop was late by ${tenthsOfSeconds(eventLoopDelayMs)}.` };
  return { status: 'ok' };
}

const tenthsOfSeconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
