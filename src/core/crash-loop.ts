/**
 * What the death of a page's holder says about the page and about those that were being handed over. Pure.
 *
 * Who was in flight is a suspect until a hand-over of it has come to an end. Suspects go out again one at a time, with
 * nobody else of their page beside them, so that the next death names one. Invariant: only a recipient that was alone in
 * flight when a holder died is ever blamed for it; where deaths name nobody, they count against the page.
 */
import type { AlertNews } from './alert-policy.ts';
import type { LedgerPage } from './ledger-page.ts';

/** So many deaths in a row put a recipient aside where they name one, and its page where they name nobody. */
export const DEATHS_TO_PARK = 3;
/** The code of an unknown recipient that was put aside because it stops its workers. */
export const QUARANTINED = 'quarantined';

/** Was in flight when a holder died, and has had no outcome since. */
export function isSuspect(page: LedgerPage, index: number): boolean {
  return page.detail(index)?.deaths !== undefined;
}

export interface Verdict {
  /** Deaths in a row that name nobody on this page. */
  readonly pageDeaths: number;
  /** Of each recipient in flight: deaths in a row that it may be to blame for. */
  readonly suspicion: ReadonlyMap<number, number>;
}

/**
 * Read before what was in flight is given up. `pageDeaths`: as they stand in the document. `wasStopping`: the holder had
 * been told to stop, so that its end says nothing.
 */
export function verdictOnDeath(page: LedgerPage, pageDeaths: number, wasStopping: boolean): Verdict {
  const inFlight = page.indices('sending');
  const [only] = inFlight;
  const alone = inFlight.length === 1 && only !== undefined;
  const suspicion = new Map<number, number>();
  for (const index of inFlight) {
    const before = page.detail(index)?.deaths;
    const now = wasStopping ? before : alone ? (before ?? 0) + 1 : Math.max(before ?? 0, 1);
    if (now !== undefined) suspicion.set(index, now);
  }
  const isNamed = alone && isSuspect(page, only);
  // Where nothing was handed over, it can only have been the question to the messenger.
  const mayBeThePage = inFlight.length > 0 || page.indices('unsettled').some((index) => isAsked(page, index));
  const counts = !wasStopping && !isNamed && mayBeThePage;
  return { pageDeaths: pageDeaths + (counts ? 1 : 0), suspicion };
}

function isAsked(page: LedgerPage, index: number): boolean {
  return page.detail(index)?.settle === 'reconcile';
}

/** In which order suspects are tried: the least suspicious first, so that few wait behind one that ends its worker. */
export function leastSuspicious(page: LedgerPage, suspects: readonly number[]): number | undefined {
  const deathsOf = (index: number): number => page.detail(index)?.deaths ?? 0;
  let least: number | undefined;
  for (const index of suspects) if (least === undefined || deathsOf(index) < deathsOf(least)) least = index;
  return least;
}

export const PAGE_PARKED = 'page_parked';
export const RECIPIENT_QUARANTINED = 'recipient_quarantined';

interface AboutRun {
  readonly runId: string;
  readonly campaignId: string;
  readonly name: string;
}

export function parkedNews({ runId, campaignId, name }: AboutRun, page: number): AlertNews {
  return {
    key: `parked:${runId}:${page}`,
    kind: PAGE_PARKED,
    level: 'warning',
    message: `Campaign \`${name}\`: page ${page} was put aside, because ${DEATHS_TO_PARK} workers in a row died while they held it. \`releaseParked\` brings it back.`,
    campaignId,
    detail: { runId, page },
  };
}

export function quarantinedNews({ runId, campaignId, name }: AboutRun, recipientId: string): AlertNews {
  return {
    key: `quarantined:${campaignId}`,
    kind: RECIPIENT_QUARANTINED,
    level: 'warning',
    message: `Campaign \`${name}\`: ${DEATHS_TO_PARK} workers in a row died while they handed over the same recipient, which was put aside. \`releaseParked\` brings it back.`,
    campaignId,
    detail: { runId, recipientId },
  };
}
