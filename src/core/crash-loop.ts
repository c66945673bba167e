/**
 * What the death of a page's holder says about the page and about those that were being handed over. Pure.
 *
 * The first death says little: most have nothing to do with what was being sent, so those in flight go out again as usual,
 * only after the others. Who was in flight again at the next death, with no outcome between, is a suspect, and suspects go
 * out one at a time, with nobody else of their page beside them: the third death names one. Invariant: only a recipient
 * that was alone in flight when a holder died is ever put aside; deaths that name nobody count against the page.
 */
import type { AlertNews } from './alert-policy.ts';
import type { LedgerPage } from './ledger-page.ts';

/** So many deaths in a row put a recipient aside where they name one, and its page where they name nobody. */
export const DEATHS_TO_PARK = 3;
/** The code of an unknown recipient that was put aside because it stops its workers. */
export const QUARANTINED = 'quarantined';
/** Who was in flight at so many deaths in a row goes out alone. */
const DEATHS_TO_SUSPECT = DEATHS_TO_PARK - 1;

/** Holders in a row that died while this one was in flight; 0 after any outcome. */
export function deathsOf(page: LedgerPage, index: number): number {
  return page.detail(index)?.deaths ?? 0;
}

export function isSuspect(page: LedgerPage, index: number): boolean {
  return deathsOf(page, index) >= DEATHS_TO_SUSPECT;
}

export interface Verdict {
  /** Deaths in a row that name nobody on this page. */
  readonly pageDeaths: number;
  /** Of each recipient in flight: deaths in a row that it may be to blame for. */
  readonly suspicion: ReadonlyMap<number, number>;
}

/**
 * Read before what was in flight is given up. `pageDeaths`: as they stand in the document. `wasStopping`: the holder had
 * been told to stop, or lives, so that its loss of the page says nothing.
 */
export function verdictOnDeath(page: LedgerPage, pageDeaths: number, wasStopping: boolean): Verdict {
  const inFlight = page.indices('sending');
  const [only] = inFlight;
  const alone = inFlight.length === 1 && only !== undefined;
  const suspicion = new Map<number, number>();
  for (const index of inFlight) {
    const before = deathsOf(page, index);
    const now = wasStopping ? before : alone ? before + 1 : Math.min(before + 1, DEATHS_TO_SUSPECT);
    if (now > 0) suspicion.set(index, now);
  }
  const isNamed = alone && deathsOf(page, only) > 0;
  // Where nothing was handed over, it can only have been the question to the messenger.
  const mayBeThePage = inFlight.length > 0 || page.indices('unsettled').some((index) => isAsked(page, index));
  const counts = !wasStopping && !isNamed && mayBeThePage;
  return { pageDeaths: pageDeaths + (counts ? 1 : 0), suspicion };
}

function isAsked(page: LedgerPage, index: number): boolean {
  return page.detail(index)?.settle === 'reconcile';
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

/** Names nobody: alerts go further than those who may know the recipients. */
export function quarantinedNews({ runId, campaignId, name }: AboutRun): AlertNews {
  return {
    key: `quarantined:${runId}`,
    kind: RECIPIENT_QUARANTINED,
    level: 'warning',
    message: `Campaign \`${name}\`: ${DEATHS_TO_PARK} workers in a row died while they handed over the same recipient, which was put aside. \`releaseParked\` brings it back.`,
    campaignId,
    detail: { runId },
  };
}
