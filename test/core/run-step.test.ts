/** The next step of an open run, for every situation there is. */
import { describe, expect, it } from 'vitest';
import { CAMPAIGN_STATUSES, type CampaignStatus, type RunStatus } from '../../src/core/campaign-machine.ts';
import type { Order, OrderKind } from '../../src/core/orders.ts';
import {
  decideEnd,
  decideRunStep,
  holdsUpOthers,
  type RunEnd,
  type RunStep,
  statusAfter,
} from '../../src/core/run-step.ts';

const RUN_STATUSES: readonly RunStatus[] = ['freezing', 'sending', 'finished', 'cancelled', 'failed'];

describe('the step', () => {
  it.each(CAMPAIGN_STATUSES)('of a run that does not exist is to insert it (%s)', (campaignStatus) => {
    const situation = { campaignStatus, isFirst: true, orderNo: 3, run: undefined, hasMessenger: true };
    expect(decideRunStep(situation)).toBe('insert-run');
  });

  it('is to copy an order down first, in every situation', () => {
    for (const campaignStatus of CAMPAIGN_STATUSES)
      for (const status of RUN_STATUSES)
        for (const hasMessenger of [true, false]) {
          const situation = { campaignStatus, orderNo: 3, run: { status, orderNo: 2 }, hasMessenger };
          expect(decideRunStep({ ...situation, isFirst: hasMessenger })).toBe('copy-order');
        }
  });

  const expected = (
    status: RunStatus,
    campaign: CampaignStatus,
    here: boolean,
    isFirst: boolean,
  ): RunStep => {
    if (status === 'freezing' && campaign === 'processing' && isFirst) return 'freeze';
    if (status === 'freezing') return campaign === 'cancelled' ? 'cancel-freezing' : 'wait';
    return status === 'sending' && campaign === 'processing' && here && isFirst ? 'send' : 'apply-orders';
  };
  const all = RUN_STATUSES.flatMap((status) =>
    CAMPAIGN_STATUSES.flatMap((campaign) =>
      [true, false].flatMap((here) => [true, false].map((first) => [status, campaign, here, first] as const)),
    ),
  );
  it.each(all)(
    'of a %s run of a %s campaign, with its messenger here: %s, the oldest open: %s',
    (status, campaign, hasMessenger, isFirst) => {
      const situation = { campaignStatus: campaign, isFirst, orderNo: 2, run: { status, orderNo: 2 } };
      expect(decideRunStep({ ...situation, hasMessenger })).toBe(
        expected(status, campaign, hasMessenger, isFirst),
      );
    },
  );
});

it.each<[RunStatus, boolean, boolean, RunStep]>([
  ['freezing', false, true, 'freeze'], // no messenger is needed for that
  ['freezing', true, false, 'wait'],
  ['sending', false, true, 'apply-orders'],
  ['sending', true, true, 'send'],
  ['sending', true, false, 'apply-orders'],
  ['finished', true, true, 'apply-orders'],
])(
  'a %s run held by the breaker, on trial here: %s, the oldest open: %s',
  (status, onTrial, isFirst, step) => {
    const situation = { isFirst, orderNo: 0, run: { status, orderNo: 0 }, hasMessenger: true, onTrial };
    expect(decideRunStep({ ...situation, campaignStatus: 'paused', heldByBreaker: true })).toBe(step);
    if (step === 'send') {
      expect(decideRunStep({ ...situation, campaignStatus: 'paused' })).toBe('apply-orders'); // a person paused it
    }
  },
);

describe('the next occurrence is held up', () => {
  const order = (kind: OrderKind, n: number, runId = 'r'): Order => ({
    ...kind,
    n,
    runId,
    targets: 'all',
    at: 0,
  });
  const resolve = (resolution: 'sent' | 'failed' | 'resend'): OrderKind => ({
    kind: 'resolve-unknown',
    resolution,
  });
  const run = (status: RunStatus) => ({ status, orderNo: 1 });
  it.each<[string, ReturnType<typeof run> | undefined, Order | undefined, boolean]>([
    ['a run that is not there yet', undefined, undefined, true],
    ['a freezing run', run('freezing'), undefined, true],
    ['a sending run, whatever the order', run('sending'), order(resolve('sent'), 2), true],
    ['a finished run', run('finished'), undefined, false],
    ['a failed run', run('failed'), undefined, false],
    ['a finished run with an order that sends nothing', run('finished'), order(resolve('sent'), 2), false],
    ['a finished run that is to send again', run('finished'), order(resolve('resend'), 2), true],
    ['a finished run that is to try again', run('finished'), order({ kind: 'retry-failed' }, 2), true],
    ['a finished run that has sent again', run('finished'), order(resolve('resend'), 1), false],
    ['a finished run, with an order for another', run('finished'), order(resolve('resend'), 2, 'q'), false],
  ])('by %s', (_what, state, given, expected) => {
    expect(holdsUpOthers('r', state, given)).toBe(expected);
  });
});

describe('the campaign after a run', () => {
  const end: RunEnd = {
    campaignStatus: 'processing',
    heldByBreaker: false,
    runStatus: 'finished',
    othersOpen: false,
    isRecurring: true,
    hasNext: true,
    pauseOnFailure: false,
    report: { total: 10, sent: 9, failed: 1, skipped: 0, unknown: 0 },
  };
  const nobody = { total: 10, sent: 0, failed: 10, skipped: 0, unknown: 0 };
  const skipped = { total: 10, sent: 0, failed: 0, skipped: 10, unknown: 0 };
  it.each<[string, Partial<RunEnd>, CampaignStatus]>([
    ['it ran once', { isRecurring: false, hasNext: true }, 'completed'],
    ['it recurs', {}, 'scheduled'],
    ['its rule has ended', { hasNext: false }, 'completed'],
    ['another run is open', { othersOpen: true, hasNext: false }, 'processing'],
    ['it was cancelled meanwhile', { campaignStatus: 'cancelled' }, 'cancelled'],
    ['it was completed before', { campaignStatus: 'completed' }, 'completed'],
    ['it is held by the breaker', { campaignStatus: 'paused', heldByBreaker: true }, 'scheduled'],
    [
      'it is held by the breaker and ran once',
      { campaignStatus: 'paused', heldByBreaker: true, isRecurring: false },
      'completed',
    ],
    [
      'it is held by the breaker, and another run is open',
      { campaignStatus: 'paused', heldByBreaker: true, othersOpen: true },
      'paused',
    ],
    ['a person paused it meanwhile', { campaignStatus: 'paused' }, 'paused'],
    ['nobody was reached', { report: nobody }, 'scheduled'],
    ['nobody was reached, and it pauses then', { report: nobody, pauseOnFailure: true }, 'paused'],
    ['nobody was reached, but all were skipped', { report: skipped, pauseOnFailure: true }, 'scheduled'],
    [
      'no audience, and it pauses then',
      { runStatus: 'failed', report: undefined, pauseOnFailure: true },
      'paused',
    ],
    ['no audience', { runStatus: 'failed', report: undefined }, 'scheduled'],
    ['all is well, and it would pause', { pauseOnFailure: true, othersOpen: true }, 'processing'],
  ])('%s', (_what, more, status) => {
    expect(statusAfter({ ...end, ...more }).status).toBe(status);
  });
});

it.each([
  ['a run reached nobody: 10 failed', { failed: 10, unknown: 0, skipped: 0 }],
  ['nobody was surely reached: 10 unknown', { failed: 0, unknown: 10, skipped: 0 }],
  ['nobody was surely reached: 6 unknown, 3 failed', { failed: 3, unknown: 6, skipped: 1 }],
])('a campaign pauses itself because %s', (because, counts) => {
  const end = {
    campaignStatus: 'processing',
    heldByBreaker: false,
    runStatus: 'finished',
    othersOpen: false,
  } as const;
  const rule = { isRecurring: true, hasNext: true, pauseOnFailure: true };
  expect(statusAfter({ ...end, ...rule, report: { total: 10, sent: 0, ...counts } })).toEqual({
    status: 'paused',
    because,
  });
});

describe('the end', () => {
  const all = RUN_STATUSES.flatMap((run) => CAMPAIGN_STATUSES.map((campaign) => [run, campaign] as const));
  it.each(all)('of a %s run of a %s campaign', (run, campaign) => {
    const waits = run === 'freezing' || campaign === 'paused';
    const end = run === 'sending' ? 'close' : 'take-out';
    expect(decideEnd(campaign, run)).toBe(waits ? 'wait' : end);
  });

  it.each(RUN_STATUSES)('of a %s run whose campaign the breaker holds: it waits for nothing', (run) => {
    const end = { freezing: 'wait', sending: 'close' }[run as string] ?? 'take-out';
    expect(decideEnd('paused', run, true)).toBe(end);
  });
});
