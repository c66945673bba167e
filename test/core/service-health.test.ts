import { describe, expect, it } from 'vitest';
import {
  judgeService,
  type QueueFacts,
  type ServiceFacts,
  type WorkerQueueFacts,
} from '../../src/core/service-health.ts';

const LIMITS = { alarmsMs: 30_000, workMs: 30_000, flushMs: 30_000, heartbeatMs: 60_000 };
const WELL: WorkerQueueFacts = {
  worker: true,
  alarmsMsAgo: 900,
  workMsAgo: 900,
  flushMsAgo: null,
  heartbeatMsAgo: 9_000,
  eventLoopDelayMs: 12,
  pagesHeld: 0,
  inFlight: 0,
};

function judge(more: {
  queue?: Partial<WorkerQueueFacts> | QueueFacts;
  database?: Partial<ServiceFacts['database']>;
  messengers?: ServiceFacts['messengers'];
}) {
  return judgeService(
    {
      now: new Date(0),
      database: { answeredMsAgo: 3.4, latencyMs: 1.2, unanswered: 0, ...more.database },
      queue: { ...WELL, ...more.queue } as QueueFacts,
      messengers: more.messengers ?? [{ name: 'email' }],
    },
    LIMITS,
  );
}

it('says how each part is', () => {
  expect(judge({})).toEqual({
    status: 'healthy',
    timestamp: new Date(0),
    services: {
      database: { status: 'ok', answeredMsAgo: 3, latencyMs: 1 },
      queue: { status: 'ok', ...WELL },
      messengers: { email: { status: 'ok' } },
    },
  });
});

describe('what is sick, and what that makes of the whole', () => {
  it.each([
    [
      'a database without an answer',
      { database: { unanswered: 9, answeredMsAgo: 16_000 } },
      'unhealthy',
      /MongoDB does not answer; it last did 16.0 s ago/,
    ],
    [
      'a database in a failover',
      { database: { unanswered: 9, answeredMsAgo: 14_000 } },
      'degraded',
      /MongoDB does not answer; it last did 14.0 s ago/,
    ],
    [
      'one ping without an answer, of a database that was not asked for long',
      { database: { unanswered: 1, answeredMsAgo: 60_000 } },
      'degraded',
      /MongoDB does not answer/,
    ],
    ['a slow database', { database: { latencyMs: 800 } }, 'degraded', /took 0.8 s/],
    ['no look for alarms', { queue: { alarmsMsAgo: 31_000 } }, 'unhealthy', /Alarms/],
    ['no look for work', { queue: { workMsAgo: 31_000 } }, 'unhealthy', /Work/],
    ['pages that cannot be written', { queue: { flushMsAgo: 31_000 } }, 'unhealthy', /Pages are held/],
    ['no heartbeat', { queue: { heartbeatMsAgo: 61_000 } }, 'unhealthy', /heartbeat/],
    ['a blocked event loop', { queue: { eventLoopDelayMs: 1_500 } }, 'degraded', /event loop/],
    [
      'a messenger that rests',
      { messengers: [{ name: 'email', sick: 'It rests.' }] },
      'degraded',
      /It rests/,
    ],
    [
      'an API process without any worker',
      { queue: { worker: false, liveWorker: false } },
      'degraded',
      /No worker/,
    ],
    ['an API process with a worker', { queue: { worker: false, liveWorker: true } }, 'healthy', /^$/],
    [
      'an API process that has not asked yet',
      { queue: { worker: false, liveWorker: null } },
      'healthy',
      /^$/,
    ],
  ] as const)('%s', (_what, facts, status, reason) => {
    const health = judge(facts as Parameters<typeof judge>[0]);
    expect(health.status).toBe(status);
    const { database, queue, messengers } = health.services;
    const reasons = [database, queue, ...Object.values(messengers)].map((part) => part.reason ?? '').join('');
    expect(reasons).toMatch(reason);
  });

  it('a database that is away says so first, whatever else follows from it', () => {
    const database = { unanswered: 2, answeredMsAgo: 20_000 };
    const health = judge({ database, messengers: [{ name: 'email', sick: 'x' }] });
    expect(health.status).toBe('unhealthy');
  });
});
