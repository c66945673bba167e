/** What recovery decides about one campaign: the whole table. */
import { describe, expect, it } from 'vitest';
import { CAMPAIGN_STATUSES } from '../../src/core/campaign-machine.ts';
import { type AlarmView, decideRecovery, type Holders, isHealthy } from '../../src/core/recovery.ts';

const NOW = new Date('2026-03-01T09:00:00Z');
const inMs = (ms: number): Date => new Date(NOW.getTime() + ms);
const HOUR = 3_600_000;

const holders = (...runs: string[]): Holders => ({ workers: new Set(['alive']), runs: new Set(runs) });
const rings = (at: Date): AlarmView => ({ nextRunAt: at, lockedAt: null, lastModifiedBy: null });
const locked = (by: string | null, nextRunAt: Date | null = null): AlarmView => ({
  nextRunAt,
  lockedAt: inMs(-1_000),
  lastModifiedBy: by,
});
const AT_REST: AlarmView = { nextRunAt: null, lockedAt: null, lastModifiedBy: 'alive' };

describe('an alarm is healthy', () => {
  it.each<[string, AlarmView | undefined, boolean]>([
    ['when it will ring', rings(inMs(HOUR)), true],
    ['when it should have rung: it will at the next poll', rings(inMs(-HOUR)), true],
    ['when a live worker holds it', locked('alive'), true],
    ['not when a dead one does', locked('dead'), false],
    ['not when a dead one does, although it has a date', locked('dead', inMs(HOUR)), false],
    ['not when nobody knows who holds it', locked(null), false],
    ['not when it is at rest', AT_REST, false],
    ['not when there is none', undefined, false],
  ])('%s', (_what, alarm, expected) => {
    expect(isHealthy(alarm, holders())).toBe(expected);
  });
});

describe('a scheduled campaign', () => {
  const decide = (nextRunAt: Date | null, alarm: AlarmView | undefined) =>
    decideRecovery(
      { status: 'scheduled', nextRunAt, openRunIds: [], isRecurring: false },
      alarm,
      holders(),
      NOW,
    );
  const sendAt = inMs(HOUR);

  it.each<[string, AlarmView | undefined, string]>([
    ['no alarm', undefined, 'reschedule'],
    ['an alarm at its time', rings(sendAt), 'skip'],
    ['an alarm before its time', rings(inMs(1)), 'skip'],
    ['an alarm after its time', rings(inMs(2 * HOUR)), 'reschedule'],
    ['an alarm at rest', AT_REST, 'reschedule'],
    ['an alarm that a live worker holds', locked('alive'), 'skip'],
    ['an alarm that a dead worker holds', locked('dead', sendAt), 'reschedule'],
  ])('not due, with %s', (_what, alarm, action) => {
    expect(decide(sendAt, alarm)).toMatchObject({ action, ...(action === 'skip' ? {} : { at: sendAt }) });
  });

  it.each<[string, AlarmView | undefined, string]>([
    ['no alarm', undefined, 'start'],
    ['an alarm that is ringing', rings(inMs(-HOUR)), 'skip'],
    ['an alarm that rings later', rings(inMs(1)), 'start'],
    ['an alarm at rest', AT_REST, 'start'],
    ['an alarm that a live worker holds', locked('alive'), 'skip'],
    ['an alarm that a dead worker holds', locked('dead'), 'start'],
  ])('overdue, with %s', (_what, alarm, action) => {
    expect(decide(inMs(-HOUR), alarm)).toMatchObject({
      action,
      ...(action === 'skip' ? {} : { lateMs: HOUR }),
    });
  });

  it('is due at its very instant', () => {
    expect(decide(NOW, undefined)).toEqual({ action: 'start', lateMs: 0 });
  });

  it('without a time is left alone', () => {
    expect(decide(null, rings(NOW))).toMatchObject({ action: 'skip' });
  });
});

describe('a recurring campaign between two runs', () => {
  const decide = (nextRunAt: Date | null, alarm: AlarmView | undefined) =>
    decideRecovery(
      { status: 'scheduled', nextRunAt, openRunIds: [], isRecurring: true },
      alarm,
      holders(),
      NOW,
    );
  const next = inMs(HOUR);

  it.each<[string, Date | null, AlarmView | undefined, Date | undefined]>([
    ['no alarm', next, undefined, next],
    ['an alarm at its time', next, rings(next), undefined],
    ['an alarm after its time', next, rings(inMs(2 * HOUR)), next],
    ['an alarm of a dead worker', next, locked('dead'), next],
    ['an alarm of a live worker', next, locked('alive'), undefined],
    ['occurrences missed and no alarm', inMs(-HOUR), undefined, NOW],
    ['occurrences missed and an alarm that is ringing', inMs(-HOUR), rings(inMs(-HOUR)), undefined],
    ['no occurrence left and no alarm', null, undefined, NOW],
  ])('with %s', (_what, nextRunAt, alarm, at) => {
    const expected = at === undefined ? { action: 'skip' } : { action: 'next-occurrence', at };
    expect(decide(nextRunAt, alarm)).toMatchObject(expected);
  });
});

describe('a processing campaign', () => {
  const decide = (alarm: AlarmView | undefined, ...held: string[]) =>
    decideRecovery(
      { status: 'processing', nextRunAt: inMs(-HOUR), isRecurring: false, openRunIds: ['a', 'b'] },
      alarm,
      holders(...held),
      NOW,
    ).action;

  it.each<[string, AlarmView | undefined, string[], string]>([
    ['a healthy alarm and a live holder', rings(inMs(1)), ['b'], 'skip'],
    ['a healthy alarm and nobody who holds a page', rings(inMs(1)), ['other'], 'resume'],
    ['a live holder and no alarm', undefined, ['a'], 'resume'],
    ['a live holder and an alarm at rest', AT_REST, ['a'], 'resume'],
    ['a live holder and an alarm of a dead worker', locked('dead'), ['a'], 'resume'],
    ['neither', undefined, [], 'resume'],
  ])('with %s', (_what, alarm, held, action) => {
    expect(decide(alarm, ...held)).toBe(action);
  });
});

it.each(CAMPAIGN_STATUSES.filter((status) => status !== 'scheduled' && status !== 'processing'))(
  'a campaign that is %s is skipped, whatever its alarm',
  (status) => {
    for (const alarm of [undefined, AT_REST, rings(NOW), locked('dead')]) {
      const decision = decideRecovery(
        { status, nextRunAt: NOW, isRecurring: false, openRunIds: ['a'] },
        alarm,
        holders(),
        NOW,
      );
      expect(decision).toEqual({ action: 'skip', reason: `it is ${status}` });
    }
  },
);
