/**
 * Closing the books of a run: they are summed from the ledger, never counted along, and close only when everybody is
 * accounted for. Invariant: a closed run's report equals the sum of its pages; a late truth that comes between is counted.
 */
import { type Counts, settledCount } from '../core/ledger-page.ts';
import type { RunDoc, RunReport } from '../store/documents.ts';
import { sumPages } from '../store/ledger-sums.ts';
import { finishRun, readRun, setReport } from '../store/runs.ts';
import type { Store } from '../store/store.ts';

const RECOUNTS = 5;

export type ClosingAnswer =
  | { readonly closed: true; readonly report: RunReport }
  | { readonly closed: false; readonly because: 'pages-open' | 'orders-behind' | 'late-truths' | 'changed' };

/** Tries to close a sending run. `cancelled`: the campaign is, so the run ends as cancelled. */
export async function closeRun(
  store: Store,
  run: RunDoc,
  cancelled: boolean,
  now: Date,
  workerId: string,
): Promise<ClosingAnswer> {
  const size = sizeOf(run);
  const sum = await sumPages(store, size);
  if (sum.late) return { closed: false, because: 'late-truths' };
  if (sum.donePages < size.pages || settledCount(sum.counts) !== size.total)
    return { closed: false, because: 'pages-open' };
  if (size.pages > 0 && sum.minOrderNo < run.orderNo) return { closed: false, because: 'orders-behind' };
  const report = reportOf(run, sum.counts, now);
  const closed = await finishRun(store, run, cancelled ? 'cancelled' : 'finished', report, workerId);
  if (!closed) return { closed: false, because: 'changed' };
  return { closed: true, report: (await recountReport(store, run._id)) ?? report };
}

/** Makes the report of a closed run equal to its pages. Returns it; undefined when the run is not closed. */
export async function recountReport(store: Store, runId: string): Promise<RunReport | undefined> {
  for (let tries = 0; tries < RECOUNTS; tries += 1) {
    const run = await readRun(store, runId);
    if (run?.report === undefined || (run.status !== 'finished' && run.status !== 'cancelled'))
      return undefined;
    const sum = await sumPages(store, sizeOf(run));
    const report = reportOf(run, sum.counts, run.report.finishedAt);
    const { sent, failed, skipped, unknown } = run.report;
    const same = report.sent === sent && report.failed === failed && report.skipped === skipped;
    if (same && report.unknown === unknown) return run.report;
    // Whether it was written or somebody else's recount was: once more round, for a truth that came meanwhile.
    await setReport(store, { ...run, report: run.report }, report);
  }
  return (await readRun(store, runId))?.report;
}

/** Has a page of this run not had all of its orders? */
export async function ordersBehind(store: Store, run: RunDoc): Promise<boolean> {
  if (run.orderNo === 0 || (run.pages ?? 0) === 0) return false;
  return (await sumPages(store, sizeOf(run))).minOrderNo < run.orderNo;
}

/** The size of a run that has adopted its audience. */
export function sizeOf(run: Pick<RunDoc, '_id' | 'pages' | 'total' | 'orderNo'>): {
  runId: string;
  pages: number;
  total: number;
  orderNo: number;
} {
  return { runId: run._id, pages: run.pages ?? 0, total: run.total ?? 0, orderNo: run.orderNo };
}

function reportOf(run: RunDoc, counts: Counts, finishedAt: Date): RunReport {
  const { sent, failed, skipped, unknown } = counts;
  return {
    total: run.total ?? 0,
    sent,
    failed,
    skipped,
    unknown,
    duplicates: run.duplicates ?? 0,
    rejected: run.rejected ?? 0,
    startedAt: run.openedAt,
    finishedAt,
  };
}
