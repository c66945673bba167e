/** Which action is allowed in which status, and where it leads: the whole table. */
import { describe, expect, it } from 'vitest';
import {
  CAMPAIGN_STATUSES,
  type CampaignAction,
  type CampaignStatus,
  isHeldByBreaker,
  nextStatus,
  statusesFor,
} from '../../src/core/campaign-machine.ts';

// draft, scheduled, processing, paused, completed, failed, cancelled; `-` refused, `=` stays
const TABLE: Record<CampaignAction, string> = {
  schedule: 'scheduled - - - - - -',
  pause: '- paused paused - - - -',
  resume: '- - - scheduled - - -',
  cancel: 'cancelled cancelled cancelled cancelled - cancelled -',
  reschedule: 'scheduled scheduled - = - - -',
  'retry-failed': '- processing = = processing processing -',
  'resend-unknown': '- processing = = processing processing -',
  'resolve-unknown': '- = = = = = =',
  'release-parked': '- processing = = processing processing -',
  'run-now': '- processing = - processing - -',
  backfill: '- processing = - processing - -',
  update: '= = = = - - -',
};
const ACTIONS = Object.keys(TABLE) as CampaignAction[];

const meant = (cell: string | undefined, status: CampaignStatus): string | undefined => {
  if (cell === '-') return undefined;
  return cell === '=' ? status : cell;
};

describe.each(ACTIONS)('%s', (action) => {
  const cells = TABLE[action].split(' ');
  it.each(CAMPAIGN_STATUSES.map((status, index) => [status, cells[index]] as const))(
    'when %s, without an open run: %s',
    (status, cell) => {
      expect(nextStatus(status, action, false)).toBe(meant(cell, status));
    },
  );

  it.each(CAMPAIGN_STATUSES)('when %s, with an open run: the same, but for a resume', (status) => {
    const resumes = action === 'resume' && (status === 'paused' || status === 'failed');
    expect(nextStatus(status, action, true)).toBe(resumes ? 'processing' : nextStatus(status, action, false));
  });

  it('is listed for exactly the statuses that allow it in some situation', () => {
    const allowed = CAMPAIGN_STATUSES.filter((status) =>
      [true, false].some((open) => nextStatus(status, action, open) !== undefined),
    );
    expect(statusesFor(action)).toEqual(allowed);
  });
});

it('what the breaker holds can be paused by a person, and not resumed; all else is as in any pause', () => {
  for (const action of ACTIONS) {
    const held = nextStatus('paused', action, true, true);
    if (action === 'pause') expect(held).toBe('paused');
    else if (action === 'resume') expect(held).toBeUndefined();
    else expect(held).toBe(nextStatus('paused', action, true));
  }
  expect(isHeldByBreaker({ status: 'paused', statusReason: { code: 'breaker_open' } })).toBe(true);
  expect(isHeldByBreaker({ status: 'paused', statusReason: { code: 'paused' } })).toBe(false);
  expect(isHeldByBreaker({ status: 'paused' })).toBe(false);
  expect(isHeldByBreaker({ status: 'cancelled', statusReason: { code: 'breaker_open' } })).toBe(false);
});

it('nothing leads out of cancelled', () => {
  for (const action of ACTIONS)
    expect([undefined, 'cancelled']).toContain(nextStatus('cancelled', action, true));
});
