import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  HEALTH_WORDS,
  type HealthFacts,
  type HealthWord,
  judgeHealth,
} from '../../src/core/campaign-health.ts';
import { CAMPAIGN_STATUSES } from '../../src/core/campaign-machine.ts';
import type { Reason, Standing } from '../../src/core/standing.ts';

const NOW = new Date('2030-01-07T12:00:00Z');
const ago = (ms: number): Date => new Date(NOW.getTime() - ms);
const LIMITS = { staleAfterMs: 600_000, failureRate: 0.2, failureMinimum: 20 };
const MOVING = new Set<Reason['code']>([
  'opening',
  'freezing',
  'applying_orders',
  'sending',
  'settling',
  'closing',
]);

const standing = (reason: Reason): Standing => ({
  ...reason,
  message: 'So it is.',
  moving: MOVING.has(reason.code),
});
const SENDING: Reason = { code: 'sending', pages: 1, workers: ['w1'] };
const NO_WORKER: Reason = { code: 'no_worker' };
const TAKING_OVER: Reason = { code: 'taking_over', pages: 1, workers: ['w1'] };
const TURN = (beside: number): Reason => ({ code: 'waiting_for_turn', priority: 0, ahead: [], beside });

function judge(reason: Reason, more: Partial<HealthFacts> = {}) {
  return judgeHealth(
    {
      now: NOW,
      status: 'processing',
      standing: standing(reason),
      hasRun: true,
      lastWorker: 'alive',
      heartbeat: { at: ago(5_000), workerId: 'w1' },
      crash: undefined,
      since: [ago(3_600_000)],
      tokenMs: 0,
      settled: 0,
      errors: 0,
      ...more,
    },
    LIMITS,
  );
}

const silent = { heartbeat: { at: ago(700_000), workerId: 'w1' } };
const crash = { at: ago(8_000), workerId: 'w1', error: 'TypeError: x' };
const before = { at: ago(9_000), workerId: 'w1' };

describe('the word for each situation', () => {
  it.each<[string, Reason, Partial<HealthFacts>, HealthWord]>([
    ['it sends', SENDING, {}, 'RUNNING'],
    [
      'its audience is read',
      { code: 'freezing', attempt: 1 },
      { heartbeat: undefined, since: [ago(10)] },
      'RUNNING',
    ],
    [
      'it waits for its time',
      { code: 'scheduled', until: NOW },
      { status: 'scheduled', hasRun: false },
      'HEALTHY',
    ],
    ['a draft', { code: 'draft' }, { status: 'draft', hasRun: false }, 'HEALTHY'],
    [
      'it waits for its hours, for ever',
      { code: 'window_closed', until: NOW, zone: 'UTC' },
      silent,
      'HEALTHY',
    ],
    [
      'it waits for a token',
      { code: 'rate', scope: 'campaign', rate: { perDay: 1 }, until: NOW },
      silent,
      'HEALTHY',
    ],
    ['it waits for a retry', { code: 'retry_at', recipients: 1, until: NOW }, silent, 'HEALTHY'],
    ['it waits for its turn', TURN(3), silent, 'HEALTHY'],
    ['it should have its turn, and has not', TURN(0), silent, 'STALE'],
    ['but not for long yet', TURN(0), {}, 'HEALTHY'],
    ['its hours have just begun', TURN(0), { ...silent, since: [ago(1_000)] }, 'HEALTHY'],
    ['the rate lets one through every half hour', TURN(0), { ...silent, tokenMs: 1_800_000 }, 'HEALTHY'],
    ['it is held, and gives no sign of life', SENDING, silent, 'STALE'],
    [
      'its messenger rests',
      { code: 'messenger_resting', messenger: 'm', everywhere: true },
      silent,
      'WARNING',
    ],
    ['pages were put aside', { code: 'parked', pages: 1 }, silent, 'WARNING'],
    ['nobody has its messenger', { code: 'no_worker_for_messenger', messenger: 'm' }, {}, 'WARNING'],
    ['and that for long', { code: 'no_worker_for_messenger', messenger: 'm' }, silent, 'STALE'],
    [
      'overdue',
      { code: 'overdue', lateMs: 1 },
      { status: 'scheduled', hasRun: false, heartbeat: undefined, since: [ago(60_000)] },
      'WARNING',
    ],
    [
      'long overdue',
      { code: 'overdue', lateMs: 1 },
      { status: 'scheduled', hasRun: false, heartbeat: undefined },
      'STALE',
    ],
    ['a fifth failed', SENDING, { settled: 100, errors: 20 }, 'RUNNING'],
    ['more than a fifth failed', SENDING, { settled: 100, errors: 21 }, 'WARNING'],
    ['of very few', SENDING, { settled: 19, errors: 19 }, 'RUNNING'],
    ['complete', { code: 'completed' }, { status: 'completed', hasRun: false }, 'COMPLETE'],
    [
      'complete, and an order is carried out',
      { code: 'applying_orders', pages: 1 },
      { status: 'completed' },
      'COMPLETE',
    ],
    ['failed', { code: 'failed' }, { status: 'failed' }, 'FAILED'],
    ['cancelled', { code: 'cancelled' }, { status: 'cancelled' }, 'TERMINATED'],
    ['paused', { code: 'paused' }, { status: 'paused', ...silent, crash }, 'INTERRUPTED'],
    ['its workers were stopped', NO_WORKER, { lastWorker: 'stopped', ...silent }, 'INTERRUPTED'],
    [
      'no worker has ever been there',
      NO_WORKER,
      { lastWorker: 'none', heartbeat: undefined, since: [ago(5)] },
      'WARNING',
    ],
    ['another program wrote it', { code: 'not_adopted' }, { status: 'processing' }, 'UNKNOWN'],
    ['a newer version wrote it', { code: 'newer_version' }, {}, 'UNKNOWN'],
    ['a worker ended by an error', NO_WORKER, { lastWorker: 'crashed', crash, heartbeat: before }, 'CRASHED'],
    ['and gave a last sign of life meanwhile', NO_WORKER, { lastWorker: 'crashed', crash }, 'CRASHED'],
    ['before its first heartbeat', TURN(0), { lastWorker: 'none', crash, heartbeat: undefined }, 'CRASHED'],
    [
      'another worker has gone on since',
      TURN(0),
      { crash, heartbeat: { at: ago(1_000), workerId: 'w2' } },
      'HEALTHY',
    ],
    [
      'another worker holds it already',
      { ...SENDING, workers: ['w2'] },
      { crash, heartbeat: before, lastWorker: 'crashed' },
      'RUNNING',
    ],
    ['the worker goes on itself: its host listens', SENDING, { crash, lastWorker: 'alive' }, 'RUNNING'],
    ['its worker was killed', TAKING_OVER, { lastWorker: 'gone' }, 'CRASHED'],
    ['and there is no other', NO_WORKER, { lastWorker: 'gone', ...silent }, 'CRASHED'],
    ['a worker was killed, another goes on', SENDING, { lastWorker: 'gone' }, 'RUNNING'],
  ])('%s', (_what, reason, more, word) => {
    const { health, message } = judge(reason, more);
    expect(health).toBe(word);
    expect(message).toContain('So it is.');
  });
});

it('says how much failed, and for how long nothing was heard', () => {
  expect(judge(SENDING, { settled: 40, errors: 12 }).message).toBe(
    '12 of 40 recipients failed or are unknown (30 %). So it is.',
  );
  expect(judge(SENDING, silent).message).toBe('No sign of life for 11 min. So it is.');
});

it('always has an answer, and what waits as it should is never stale', () => {
  const instants = fc.integer({ min: 0, max: 10 * 86_400_000 }).map(ago);
  const waits: Reason[] = [
    { code: 'window_closed', until: NOW, zone: 'UTC' },
    { code: 'rate', scope: 'campaign', rate: { perDay: 1 }, until: NOW },
    { code: 'retry_at', recipients: 1, until: NOW },
    { code: 'next_occurrence', until: NOW },
    { code: 'scheduled', until: NOW },
    { code: 'messenger_resting', messenger: 'm', everywhere: false },
    TURN(1),
  ];
  fc.assert(
    fc.property(
      fc.record({
        status: fc.constantFrom(...CAMPAIGN_STATUSES),
        hasRun: fc.boolean(),
        lastWorker: fc.constantFrom('alive', 'gone', 'stopped', 'crashed', 'none'),
        heartbeat: fc.option(fc.record({ at: instants, workerId: fc.constantFrom('w1', 'w2') }), {
          nil: undefined,
        }),
        crash: fc.option(
          fc.record({ at: instants, workerId: fc.constantFrom('w1', 'w2'), error: fc.string() }),
          {
            nil: undefined,
          },
        ),
        since: fc.array(instants, { maxLength: 3 }),
        settled: fc.nat(),
        errors: fc.nat(),
      }),
      fc.constantFrom(...waits, SENDING, NO_WORKER, TAKING_OVER, TURN(0)),
      (facts, reason) => {
        const { health } = judge(reason, facts as Partial<HealthFacts>);
        expect(HEALTH_WORDS).toContain(health);
        if (waits.includes(reason)) expect(health).not.toBe('STALE');
      },
    ),
  );
});
