/** Looking into the books of a run: a quick sum for people who watch, and a full recount for people who doubt. */
import { addCounts, type Counts, DELIVERY_STATES, emptyCounts } from '../core/ledger-page.ts';
import { nextSamples } from '../core/progress-rate.ts';
import { audienceSizes } from '../store/audiences.ts';
import type { RunDoc } from '../store/documents.ts';
import { decodePage, readPages } from '../store/ledger-pages.ts';
import { sumPages } from '../store/ledger-sums.ts';
import { cacheProgress } from '../store/runs.ts';
import type { Store } from '../store/store.ts';
import { sizeOf } from './closing.ts';

const CACHE_MS = 2000;

/** Counts of a run: from its report, from the last sum if that is fresh, else summed now. */
export async function readProgress(
  store: Store,
  run: Omit<RunDoc, 'content'>,
  now: Date,
): Promise<Counts & { total: number }> {
  const total = run.total ?? 0;
  const { progress, report } = run;
  if (report !== undefined && run.status !== 'sending') {
    const { sent, failed, skipped, unknown } = report;
    return { ...emptyCounts(), sent, failed, skipped, unknown, total };
  }
  if (
    progress !== undefined &&
    now.getTime() - progress.at.getTime() < CACHE_MS &&
    run.status === 'sending'
  ) {
    return { ...progress.counts, total };
  }
  const { counts } = await sumPages(store, sizeOf(run));
  if (run.status === 'sending') {
    await cacheProgress(store, run._id, { counts, at: now, samples: nextSamples(progress, now) });
  }
  return { ...counts, total };
}

export interface Audit {
  /** Nothing contradicts anything. */
  readonly ok: boolean;
  readonly total: number;
  readonly counts: Counts;
  /** The first 100 contradictions, in words. */
  readonly problems: readonly string[];
}

/** Recounts every outcome, page by page. */
export async function auditRun(store: Store, run: RunDoc): Promise<Audit> {
  const problems: string[] = [];
  const complain = (text: string): void => {
    if (problems.length < 100) problems.push(text);
  };
  const pages = run.pages ?? 0;
  const sizes =
    run.audienceId === undefined ? new Map<number, number>() : await audienceSizes(store, run.audienceId);
  const counts = emptyCounts();
  const seen = new Set<number>();
  for await (const document of readPages(store, run._id, pages)) {
    seen.add(document.n);
    const size = sizes.get(document.n);
    if (size === undefined) {
      complain(`page ${document.n} has no audience page`);
      continue;
    }
    if (document.states !== undefined && document.states.length !== size) {
      complain(`page ${document.n} has ${document.states.length} outcomes for ${size} recipients`);
      continue;
    }
    const page = decodePage(document, size);
    const differs = DELIVERY_STATES.some(
      (state) => page.counts[state] !== (document.counts?.[state] ?? (state === 'pending' ? size : 0)),
    );
    if (differs) complain(`page ${document.n} counts differ from its outcomes`);
    addCounts(counts, page.counts);
  }
  for (let n = 0; n < pages; n += 1) if (!seen.has(n)) complain(`page ${n} is missing in the ledger`);
  const counted = DELIVERY_STATES.reduce((sum, state) => sum + counts[state], 0);
  if (counted !== (run.total ?? 0)) complain(`${counted} outcomes for an audience of ${run.total ?? 0}`);
  const { report } = run;
  if (report !== undefined && run.status !== 'sending') {
    for (const state of ['sent', 'failed', 'skipped', 'unknown'] as const) {
      if (report[state] !== counts[state])
        complain(`the report says ${report[state]} ${state}, the ledger ${counts[state]}`);
    }
  }
  return { ok: problems.length === 0, total: run.total ?? 0, counts, problems };
}
