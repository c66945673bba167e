/** Facts for tests of `why`: everything is well and sending, but for what a test changes. */
import { emptyCounts } from '../../src/core/ledger-page.ts';
import type { LiveWorker, PageFacts, RunFacts, StandingFacts } from '../../src/core/standing.ts';

export const NOW = new Date('2026-03-02T12:00:00Z');
export const after = (ms: number): Date => new Date(NOW.getTime() + ms);

export const WORKER: LiveWorker = { id: 'w1', messengers: ['post'], sources: ['customers'], resting: [] };

export const PAGES: PageFacts = {
  counts: { ...emptyCounts(), pending: 80, sending: 10, sent: 10 },
  pending: 8,
  waiting: 0,
  claimed: 2,
  parked: 0,
  behind: 0,
  newer: 0,
  dueAt: null,
  claims: [{ workerId: 'w1', pages: 2, settling: 0, waitMs: 0 }],
};
/** Nobody holds a page. */
export const UNHELD: PageFacts = { ...PAGES, claimed: 0, claims: [] };

export const RUN: RunFacts = {
  status: 'sending',
  isNewer: false,
  orderNo: 0,
  messenger: 'post',
  source: undefined,
  freezing: undefined,
  pages: PAGES,
  window: undefined,
  zones: [],
  rates: [],
  others: [],
};

export const CAMPAIGN: StandingFacts['campaign'] = {
  status: 'processing',
  messenger: 'post',
  priority: 0,
  isRecurring: false,
  nextRunAt: after(-60_000),
  orderNo: 0,
};

export interface Changes {
  readonly facts?: Partial<StandingFacts>;
  readonly campaign?: Partial<StandingFacts['campaign']>;
  readonly run?: Partial<RunFacts>;
  readonly pages?: Partial<PageFacts>;
}

export function factsOf({ facts, campaign, run, pages }: Changes = {}): StandingFacts {
  return {
    now: NOW,
    origin: 'ours',
    campaign: { ...CAMPAIGN, ...campaign },
    alarm: { ringsAt: after(30_000), lockedAt: null, heldBy: null },
    workers: [WORKER],
    quarantined: 0,
    openRuns: 1,
    run: { ...RUN, ...run, pages: { ...(run?.pages ?? PAGES), ...pages } },
    ...facts,
  };
}

/** A campaign without an open run. */
export function idle(campaign: Partial<StandingFacts['campaign']>, facts: Partial<StandingFacts> = {}) {
  return factsOf({ campaign, facts: { openRuns: 0, run: undefined, ...facts } });
}
