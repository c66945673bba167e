/** The next step of an open run, for every situation there is. */
import { describe, expect, it } from 'vitest';
import { CAMPAIGN_STATUSES, type CampaignStatus, type RunStatus } from '../../src/core/campaign-machine.ts';
import { decideEnd, decideRunStep, type RunStep } from '../../src/core/run-step.ts';

const RUN_STATUSES: readonly RunStatus[] = ['freezing', 'sending', 'finished', 'cancelled', 'failed'];

describe('the step', () => {
  it.each(CAMPAIGN_STATUSES)('of a run that does not exist is to insert it (%s)', (campaignStatus) => {
    const situation = { campaignStatus, orderNo: 3, run: undefined, hasMessenger: true };
    expect(decideRunStep(situation)).toBe('insert-run');
  });

  it('is to copy an order down first, in every situation', () => {
    for (const campaignStatus of CAMPAIGN_STATUSES)
      for (const status of RUN_STATUSES)
        for (const hasMessenger of [true, false]) {
          const situation = { campaignStatus, orderNo: 3, run: { status, orderNo: 2 }, hasMessenger };
          expect(decideRunStep(situation)).toBe('copy-order');
        }
  });

  const expected = (status: RunStatus, campaign: CampaignStatus, hasMessenger: boolean): RunStep => {
    if (status === 'freezing' && campaign === 'processing') return 'freeze';
    if (status === 'freezing') return campaign === 'cancelled' ? 'cancel-freezing' : 'wait';
    return status === 'sending' && campaign === 'processing' && hasMessenger ? 'send' : 'apply-orders';
  };
  const all = RUN_STATUSES.flatMap((status) =>
    CAMPAIGN_STATUSES.flatMap((campaign) =>
      [true, false].map((hasMessenger) => [status, campaign, hasMessenger] as const),
    ),
  );
  it.each(all)(
    'of a %s run of a %s campaign, with its messenger here: %s',
    (status, campaign, hasMessenger) => {
      const situation = { campaignStatus: campaign, orderNo: 2, run: { status, orderNo: 2 }, hasMessenger };
      expect(decideRunStep(situation)).toBe(expected(status, campaign, hasMessenger));
    },
  );
});

describe('the end', () => {
  const all = RUN_STATUSES.flatMap((run) => CAMPAIGN_STATUSES.map((campaign) => [run, campaign] as const));
  it.each(all)('of a %s run of a %s campaign', (run, campaign) => {
    const waits = run === 'freezing' || campaign === 'paused';
    const end = run === 'sending' ? 'close' : 'take-out';
    expect(decideEnd(campaign, run)).toBe(waits ? 'wait' : end);
  });
});
