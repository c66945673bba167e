/** Why a campaign is, or is not, moving: a table with every code, and the promise that there always is a reason. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CAMPAIGN_STATUSES } from '../../src/core/campaign-machine.ts';
import { emptyCounts } from '../../src/core/ledger-page.ts';
import type { SendWindow } from '../../src/core/send-window-check.ts';
import type { FreezingFacts, ReasonCode, StandingFacts } from '../../src/core/standing.ts';
import { explainStanding } from '../../src/core/why.ts';
import { after, factsOf, idle, NOW, PAGES, RUN, UNHELD, WORKER } from './standing-facts.ts';

const SINCE = after(-3_600_000);
const BY = { code: 'paused', at: SINCE, by: 'ann', detail: 'wrong subject.' };
const attempt = (more: Partial<FreezingFacts>): FreezingFacts => ({
  attempt: 2,
  state: 'freezing',
  failures: 1,
  error: undefined,
  touchedAt: after(-1_000),
  workerId: 'w1',
  ...more,
});
const freezing = (more: Partial<FreezingFacts> | undefined, facts: Partial<StandingFacts> = {}) =>
  factsOf({
    facts,
    run: {
      status: 'freezing',
      source: 'customers',
      freezing: more === undefined ? undefined : attempt(more),
      pages: { ...UNHELD, pending: 0, counts: emptyCounts() },
    },
  });
const done = { ...UNHELD, pending: 0, counts: { ...emptyCounts(), sent: 100 } };
const NIGHT: SendWindow = {
  days: ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'],
  from: '22:00',
  to: '23:00',
  timezone: 'Europe/Paris',
  holidays: [],
};
const PER_RECIPIENT: SendWindow = { ...NIGHT, timezone: 'recipient', fallbackTimezone: 'UTC' };
/** Its next token is so far away. */
const bucket = (firstInMs: number, spacingMs = 60_000) => {
  return { tokens: -firstInMs / spacingMs, at: NOW.getTime(), blockedUntil: 0 };
};
const PER_MINUTE = { perMinute: 1 };

type Case = readonly [
  name: string,
  facts: StandingFacts,
  code: ReasonCode,
  data?: object,
  message?: string | RegExp,
];
const held = (breaker: StandingFacts['campaign']['breaker']) =>
  factsOf({
    campaign: {
      status: 'paused',
      statusReason: { code: 'breaker_open', at: SINCE, by: 'breaker', detail: 'refused' },
      breaker,
    },
  });
const CASES: readonly Case[] = [
  ['another program wrote it', factsOf({ facts: { origin: 'foreign' } }), 'not_adopted'],
  ['a newer version wrote it', factsOf({ facts: { origin: 'newer' } }), 'newer_version'],
  ['a newer version wrote its run', factsOf({ run: { isNewer: true } }), 'newer_version'],
  [
    'a newer version wrote the pages that are left',
    factsOf({ run: { pages: { ...UNHELD, newer: 8 } } }),
    'newer_version',
  ],
  ['a draft', idle({ status: 'draft', nextRunAt: null }), 'draft', {}, /draft/],
  [
    'paused by somebody',
    factsOf({ campaign: { status: 'paused', statusReason: BY } }),
    'paused',
    { by: 'ann', since: SINCE, detail: 'wrong subject.', moving: false },
    'Paused by ann at 2026-03-02T11:00:00Z: wrong subject. It goes on when somebody resumes it.',
  ],
  [
    'held by the breaker',
    held({ state: 'open', nextProbeAt: after(9_000) }),
    'breaker_open',
    { messenger: 'post', state: 'open', detail: 'refused', since: SINCE, until: after(9_000), moving: false },
    'Paused since 2026-03-02T11:00:00Z because the messenger `post` does not work: refused. It is tried at 2026-03-02T12:00:09Z (in 9 s), with a few recipients; when they get through, everything goes on by itself.',
  ],
  [
    'held by the breaker, which is being tried',
    held({ state: 'half_open' }),
    'breaker_open',
    { state: 'half_open' },
    /refused\. A few recipients are tried right now/,
  ],
  [
    'held by the breaker that somebody opened',
    held({ state: 'open', openedBy: 'ann' }),
    'breaker_open',
    { openedBy: 'ann' },
    /^Paused since .*: ann opened the breaker of the messenger `post`: refused\. It stays so until somebody closes it\.$/,
  ],
  [
    'held by a breaker that has closed',
    held(undefined),
    'breaker_open',
    { state: 'closed' },
    /within moments/,
  ],
  [
    'held by the breaker, and nobody could try it',
    { ...held({ state: 'open' }), workers: [{ ...WORKER, messengers: [] }] },
    'no_worker_for_messenger',
  ],
  ['held by the breaker, and nobody lives', { ...held({ state: 'open' }), workers: [] }, 'no_worker'],
  ['paused, nobody knows why', idle({ status: 'paused' }), 'paused', {}, /^Paused\. /],
  [
    'cancelled',
    idle({ status: 'cancelled', statusReason: { code: 'cancelled', at: SINCE, by: 'bob' } }),
    'cancelled',
    { by: 'bob' },
    'Cancelled by bob at 2026-03-02T11:00:00Z.',
  ],
  [
    'cancelled, its pages have not heard of it',
    factsOf({ campaign: { status: 'cancelled', orderNo: 1 } }),
    'applying_orders',
  ],
  [
    'cancelled, pages behind',
    factsOf({ campaign: { status: 'cancelled' }, run: { pages: { ...UNHELD, pending: 3, behind: 3 } } }),
    'applying_orders',
    { pages: 3, moving: true },
  ],
  [
    'cancelled, its books are open',
    factsOf({ campaign: { status: 'cancelled' }, run: { pages: done } }),
    'closing',
  ],
  [
    'cancelled while nobody lives',
    factsOf({ campaign: { status: 'cancelled' }, facts: { workers: [] } }),
    'no_worker',
  ],
  ['completed', idle({ status: 'completed' }), 'completed'],
  [
    'completed but for those put aside',
    idle({ status: 'completed' }, { quarantined: 1 }),
    'quarantined',
    { recipients: 1, moving: false },
    /but for 1 recipient put aside because workers were lost .* while it was .* `releaseParked`/,
  ],
  [
    'completed, an order is about it',
    factsOf({
      campaign: { status: 'completed' },
      run: { status: 'finished', pages: { ...done, behind: 2 } },
    }),
    'applying_orders',
    { pages: 2 },
  ],
  [
    'failed while freezing',
    factsOf({
      campaign: {
        status: 'failed',
        statusReason: { code: 'freezing_failed', at: SINCE, by: 'scheduler', detail: 'no table' },
      },
      run: { status: 'freezing' },
    }),
    'failed',
    { by: 'scheduler', detail: 'no table' },
    'Failed by scheduler at 2026-03-02T11:00:00Z: no table.',
  ],
  [
    'failed, an order is about it',
    factsOf({ campaign: { status: 'failed' }, run: { status: 'finished', pages: { ...done, behind: 1 } } }),
    'applying_orders',
  ],
  [
    'to start later',
    idle({ status: 'scheduled', nextRunAt: after(3_600_000) }),
    'scheduled',
    { until: after(3_600_000), moving: false },
    'It starts at 2026-03-02T13:00:00Z (in 1 h).',
  ],
  [
    'to occur later',
    idle({ status: 'scheduled', isRecurring: true, nextRunAt: after(90_000) }),
    'next_occurrence',
    { until: after(90_000) },
    'The next occurrence is at 2026-03-02T12:01:30Z (in 90 s).',
  ],
  ['scheduled without a time', idle({ status: 'scheduled', nextRunAt: null }), 'no_time'],
  [
    'a rule that has ended',
    idle({ status: 'scheduled', isRecurring: true, nextRunAt: null }),
    'rule_ended',
    { moving: true },
  ],
  ['due, nobody lives', idle({ status: 'scheduled' }, { workers: [] }), 'no_worker', {}, /worker: true/],
  [
    'due without an alarm',
    idle({ status: 'scheduled' }, { alarm: undefined }),
    'alarm_missing',
    { lateMs: 60_000 },
    'It is 60 s overdue and has no alarm; recovery sets it.',
  ],
  [
    'due with an alarm that nothing will ever find',
    idle({ status: 'scheduled' }, { alarm: { ringsAt: null, lockedAt: null, heldBy: null } }),
    'alarm_missing',
  ],
  [
    'its alarm is ringing',
    idle({ status: 'scheduled' }, { alarm: { ringsAt: null, lockedAt: NOW, heldBy: 'w1' } }),
    'opening',
    { moving: true },
  ],
  [
    'its alarm rang in a worker that is lost',
    idle({ status: 'scheduled' }, { alarm: { ringsAt: null, lockedAt: NOW, heldBy: 'w9' } }),
    'overdue',
    { heldBy: 'w9' },
    /held by a lost worker/,
  ],
  [
    'its alarm rings too late',
    idle({ status: 'scheduled' }),
    'overdue',
    { lateMs: 60_000, until: after(30_000) },
    /rings at 2026-03-02T12:00:30Z \(in 30 s\) only/,
  ],
  [
    'just due',
    idle(
      { status: 'scheduled', nextRunAt: after(-500) },
      { alarm: { ringsAt: after(-500), lockedAt: null, heldBy: null } },
    ),
    'opening',
  ],
  [
    'due for a minute, and no worker has come',
    idle({ status: 'scheduled' }, { alarm: { ringsAt: after(-60_000), lockedAt: null, heldBy: null } }),
    'overdue',
    { lateMs: 60_000 },
    /no worker has come/,
  ],
  ['in progress without a run', idle({}), 'no_run'],
  ['its run is not inserted', factsOf({ facts: { run: undefined } }), 'opening'],
  ['in progress, nobody lives', factsOf({ facts: { workers: [] } }), 'no_worker'],
  ['a list is adopted', factsOf({ run: { status: 'freezing' } }), 'freezing', { attempt: 1 }],
  ['a source that nobody has begun', freezing(undefined), 'freezing_queued', { attempt: 1 }],
  [
    'a source is read',
    freezing({ error: undefined }),
    'freezing',
    { attempt: 2, source: 'customers', workerId: 'w1', moving: true },
    'The audience source `customers` is being read, attempt 2.',
  ],
  ['a source has been read', freezing({ state: 'ready' }), 'freezing', { attempt: 2 }],
  ['a source was read by a worker that is lost', freezing({ workerId: 'w9' }), 'freezing_lost'],
  ['a source was given up with its worker', freezing({ state: 'dead' }), 'freezing_queued', { attempt: 3 }],
  [
    'a source failed',
    freezing({ state: 'failed', failures: 2, error: 'cursor lost' }),
    'freezing_retry',
    { attempt: 2, attemptsLeft: 3, lastError: 'cursor lost', until: after(9_000), moving: false },
    'Attempt 2 to read the audience source `customers` failed: cursor lost. Next attempt at 2026-03-02T12:00:09Z (in 9 s), 3 left.',
  ],
  [
    'a source failed for the last time',
    freezing({ state: 'failed', failures: 5, error: 'cursor lost' }),
    'freezing_retry',
    { attemptsLeft: 0 },
    /about to be given up/,
  ],
  [
    'a source failed, and the pause is over',
    freezing({ state: 'failed', touchedAt: SINCE }),
    'freezing_queued',
    { attempt: 3 },
  ],
  [
    'no worker has the source',
    freezing(
      { state: 'failed', error: 'cursor lost' },
      { workers: [{ ...WORKER, id: 'w2', sources: ['others'] }] },
    ),
    'no_worker_for_source',
    { source: 'customers', lastError: 'cursor lost' },
    'No live worker has the audience source `customers`. Last error: cursor lost.',
  ],
  [
    'no worker has the messenger',
    factsOf({ facts: { workers: [{ ...WORKER, id: 'w2', messengers: ['fax'] }] } }),
    'no_worker_for_messenger',
    { messenger: 'post' },
    'No live worker has the messenger `post`.',
  ],
  [
    'no worker has the messenger, but orders need none',
    factsOf({
      facts: { workers: [{ ...WORKER, messengers: [] }] },
      run: { pages: { ...UNHELD, behind: 3 } },
    }),
    'applying_orders',
  ],
  ['its run has not had the order', factsOf({ campaign: { orderNo: 3 } }), 'applying_orders'],
  ['its run is finished', factsOf({ run: { status: 'finished', pages: done } }), 'closing'],
  [
    'sending',
    factsOf(),
    'sending',
    { pages: 2, workers: ['w1'], moving: true },
    'It is sending: 2 pages with 1 worker.',
  ],
  [
    'all that is held waits for an earlier holder',
    factsOf({
      pages: { pending: 0, claims: [{ workerId: 'w1', pages: 2, settling: 2, waitMs: 32_000 }] },
    }),
    'settling',
    { pages: 2, atMostMs: 32_000 },
    /at most 32 s after/,
  ],
  [
    'one page waits for an earlier holder, the other sends',
    factsOf({ pages: { claims: [{ workerId: 'w1', pages: 2, settling: 1, waitMs: 32_000 }] } }),
    'sending',
  ],
  [
    'its holder is lost',
    factsOf({ pages: { pending: 0, claims: [{ workerId: 'w9', pages: 2, settling: 0, waitMs: 0 }] } }),
    'taking_over',
    { workers: ['w9'] },
  ],
  [
    'its window is closed',
    factsOf({ run: { window: NIGHT } }),
    'window_closed',
    { until: new Date('2026-03-02T21:00:00Z'), zone: 'Europe/Paris', moving: false },
    'Its send window is closed; it opens at 2026-03-02T21:00:00Z (in 9 h), by the clock of Europe/Paris.',
  ],
  [
    'its window is closed, and retries are due before it opens',
    factsOf({ run: { window: NIGHT, pages: { ...UNHELD, pending: 0, waiting: 2, dueAt: after(1) } } }),
    'window_closed',
  ],
  ['its window is open', factsOf({ run: { window: { ...NIGHT, from: '12:00' } } }), 'sending'],
  [
    'the window of each recipient is closed',
    factsOf({ run: { window: PER_RECIPIENT, zones: ['Europe/Paris', undefined, 'Asia/Tokyo'] } }),
    'window_closed',
    { until: new Date('2026-03-02T13:00:00Z'), zone: 'Asia/Tokyo' },
  ],
  [
    'the window of one recipient is open',
    factsOf({ run: { window: PER_RECIPIENT, zones: ['Europe/Paris', 'Australia/Brisbane'] } }),
    'sending',
  ],
  [
    'no token for 40 s',
    factsOf({ run: { rates: [{ scope: 'campaign', rate: PER_MINUTE, bucket: bucket(40_000) }] } }),
    'rate',
    { scope: 'campaign', rate: PER_MINUTE, until: after(40_000), moving: false },
    'The limit of the campaign, 1 per minute, is used up; it sends again at 2026-03-02T12:00:40Z (in 40 s).',
  ],
  [
    'the later of two buckets counts',
    factsOf({
      run: {
        rates: [
          { scope: 'campaign', rate: PER_MINUTE, bucket: bucket(10_000) },
          { scope: 'messenger', rate: { perHour: 10 }, bucket: bucket(50_000, 360_000) },
        ],
      },
    }),
    'rate',
    { scope: 'messenger', until: after(50_000) },
  ],
  [
    'tokens come faster than anybody looks',
    factsOf({ run: { rates: [{ scope: 'campaign', rate: { perSecond: 10 }, bucket: bucket(90, 100) }] } }),
    'sending',
  ],
  [
    'nobody has asked for a token yet',
    factsOf({ run: { rates: [{ scope: 'campaign', rate: PER_MINUTE, bucket: undefined }] } }),
    'sending',
  ],
  [
    'the provider asked for a rest',
    factsOf({
      run: {
        rates: [
          {
            scope: 'messenger',
            rate: undefined,
            bucket: { ...bucket(0), blockedUntil: after(7_000).getTime() },
          },
        ],
      },
    }),
    'messenger_resting',
    { messenger: 'post', everywhere: true, until: after(7_000) },
    /the provider asked for a rest; it is tried again at 2026-03-02T12:00:07Z/,
  ],
  [
    'the messenger failed in every worker',
    factsOf({
      facts: { workers: [{ ...WORKER, resting: [{ messenger: 'post', until: after(4_000) }] }] },
    }),
    'messenger_resting',
    { everywhere: false, until: after(4_000) },
    /it failed in every worker that has it/,
  ],
  [
    'the messenger is tried again',
    factsOf({ facts: { workers: [{ ...WORKER, resting: [{ messenger: 'post', until: after(-1) }] }] } }),
    'messenger_resting',
    {},
    /it is being tried again/,
  ],
  [
    'the messenger failed in one of two workers',
    factsOf({
      facts: {
        workers: [
          { ...WORKER, resting: [{ messenger: 'post', until: after(4_000) }] },
          { ...WORKER, id: 'w2' },
        ],
      },
    }),
    'sending',
  ],
  [
    'behind others of higher priority',
    factsOf({
      run: {
        pages: UNHELD,
        others: [
          { id: 'a', name: 'Alarm', priority: 50 },
          { id: 'b', name: 'Bill', priority: 10 },
          { id: 'c', name: 'Chat', priority: 0 },
        ],
      },
    }),
    'waiting_for_turn',
    { priority: 0, beside: 1, moving: false },
    'It waits for its turn behind `Alarm` and 1 more of higher priority.',
  ],
  [
    'beside others',
    factsOf({ run: { pages: UNHELD, others: [{ id: 'c', name: 'Chat', priority: 0 }] } }),
    'waiting_for_turn',
    { ahead: [], beside: 1 },
    'It takes turns with 1 other campaign of the same priority.',
  ],
  ['about to be claimed', factsOf({ run: { pages: UNHELD } }), 'waiting_for_turn', {}, /about to take/],
  [
    'retries that are due wait for a turn',
    factsOf({ run: { pages: { ...UNHELD, pending: 0, waiting: 1, dueAt: after(-1) } } }),
    'waiting_for_turn',
  ],
  [
    'only retries are left',
    factsOf({
      run: {
        pages: {
          ...UNHELD,
          pending: 0,
          waiting: 1,
          dueAt: after(60_000),
          counts: { ...emptyCounts(), sent: 97, retrying: 3 },
        },
      },
    }),
    'retry_at',
    { recipients: 3, until: after(60_000) },
    '3 recipients to be tried again at 2026-03-02T12:01:00Z (in 60 s) or later; nobody else is left.',
  ],
  [
    'only parked pages are left',
    factsOf({ run: { pages: { ...done, parked: 1 } } }),
    'parked',
    { pages: 1 },
    /releaseParked/,
  ],
  ['everybody is accounted for', factsOf({ run: { pages: done } }), 'closing', { moving: true }],
];

describe('explainStanding', () => {
  for (const [name, facts, code, data = {}, message = /./] of CASES) {
    it(name, () => {
      const standing = explainStanding(facts);
      expect(standing).toMatchObject({ code, ...data });
      if (message instanceof RegExp) expect(standing.message).toMatch(message);
      else expect(standing.message).toBe(message);
    });
  }

  it('has a case for every code', () => {
    const codes = [
      ...['not_adopted', 'newer_version', 'draft', 'paused', 'cancelled', 'failed', 'completed', 'scheduled'],
      ...['next_occurrence', 'no_time', 'rule_ended', 'opening', 'no_worker', 'alarm_missing', 'overdue'],
      ...['no_run', 'no_worker_for_source', 'no_worker_for_messenger', 'freezing', 'freezing_lost'],
      ...['freezing_retry', 'freezing_queued', 'applying_orders', 'sending', 'settling', 'taking_over'],
      ...['window_closed', 'rate', 'messenger_resting', 'waiting_for_turn', 'retry_at', 'parked', 'closing'],
      ...['quarantined', 'breaker_open'],
    ];
    expect([...new Set(CASES.map(([, , code]) => code))].sort()).toEqual(codes.sort());
  });
});

describe('whatever the facts', () => {
  const instant = fc.integer({ min: -100_000, max: 100_000 }).map(after);
  const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
  const few = fc.integer({ min: 0, max: 2 });
  const worker = fc.record({
    id: fc.constantFrom('w1', 'w2'),
    messengers: fc.subarray(['post', 'fax']),
    sources: fc.subarray(['customers', 'others']),
    resting: fc.array(fc.record({ messenger: fc.constantFrom('post', 'fax'), until: instant }), {
      maxLength: 2,
    }),
  });
  const pages = fc.record({
    counts: fc.constant(PAGES.counts),
    pending: few,
    waiting: few,
    claimed: few,
    parked: few,
    behind: few,
    newer: few,
    dueAt: fc.option(instant),
    claims: fc.array(
      fc.record({ workerId: fc.constantFrom('w1', 'w9'), pages: few, settling: few, waitMs: few }),
      { maxLength: 2 },
    ),
  });
  const run = fc.record({
    status: fc.constantFrom('freezing', 'sending', 'finished', 'cancelled', 'failed'),
    isNewer: fc.boolean(),
    orderNo: few,
    messenger: fc.constantFrom('post', 'fax'),
    source: maybe(fc.constantFrom('customers', 'nowhere')),
    freezing: maybe(
      fc.record({
        attempt: fc.integer({ min: 1, max: 9 }),
        state: fc.constantFrom('freezing', 'ready', 'failed', 'dead'),
        failures: fc.integer({ min: 0, max: 9 }),
        error: maybe(fc.constant('broken')),
        touchedAt: instant,
        workerId: fc.constantFrom('w1', 'w9'),
      }),
    ),
    pages,
    window: maybe(fc.constantFrom(NIGHT, PER_RECIPIENT)),
    zones: fc.subarray([undefined, 'Europe/Paris', 'Asia/Tokyo', 'Nowhere/Land']),
    rates: fc.array(
      fc.record({
        scope: fc.constantFrom('campaign', 'messenger'),
        rate: maybe(fc.constant(PER_MINUTE)),
        bucket: maybe(
          fc.record({
            tokens: fc.integer({ min: -2, max: 0 }),
            at: instant.map(Number),
            blockedUntil: instant.map(Number),
          }),
        ),
      }),
      { maxLength: 2 },
    ),
    others: fc.array(
      fc.record({ id: fc.constant('x'), name: fc.constant('X'), priority: fc.integer({ min: 0, max: 2 }) }),
      { maxLength: 3 },
    ),
  });
  const facts = fc.record({
    now: fc.constant(NOW),
    origin: fc.constantFrom('ours', 'ours', 'ours', 'newer', 'foreign'),
    campaign: fc.record({
      status: fc.constantFrom(...CAMPAIGN_STATUSES),
      statusReason: maybe(fc.constantFrom(BY, { code: 'x', at: SINCE, by: 'bob' })),
      messenger: fc.constant('post'),
      priority: few,
      isRecurring: fc.boolean(),
      nextRunAt: fc.option(instant),
      orderNo: few,
    }),
    alarm: maybe(
      fc.record({
        ringsAt: fc.option(instant),
        lockedAt: fc.option(instant),
        heldBy: fc.option(fc.constantFrom('w1', 'w9')),
      }),
    ),
    workers: fc.array(worker, { maxLength: 2 }),
    quarantined: few,
    openRuns: few,
    run: maybe(run),
  }) as fc.Arbitrary<StandingFacts>;

  it('there is a reason with a sentence, and a time at which it ends lies ahead', () => {
    const known = new Set<string>(CASES.map(([, , code]) => code));
    fc.assert(
      fc.property(facts, (given) => {
        const { code, message, moving, ...data } = explainStanding(given);
        expect(known.has(code)).toBe(true);
        expect(message).toMatch(/^[A-Z0-9].*\.$/);
        expect(message).not.toMatch(/undefined|null|NaN|Invalid|\[object/);
        expect(typeof moving).toBe('boolean');
        if ('until' in data) expect(data.until?.getTime()).toBeGreaterThan(NOW.getTime());
      }),
      { numRuns: 20_000 },
    );
  });

  it('nothing is said to send that no living worker holds', () => {
    fc.assert(
      fc.property(facts, (given) => {
        const standing = explainStanding(given);
        if (standing.code !== 'sending') return;
        const living = new Set(given.workers.map(({ id }) => id));
        expect(given.run?.status).toBe('sending');
        expect(standing.workers.every((id) => living.has(id))).toBe(true);
      }),
      { numRuns: 5_000 },
    );
  });
});

it('the facts of these tests are a campaign that sends', () => {
  expect(explainStanding(factsOf({ run: RUN })).code).toBe('sending');
});
