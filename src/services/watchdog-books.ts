/**
 * Failures and books: runs with many failures, and ledgers that contradict themselves. Invariant: reads only, and a bounded
 * number of pages in a round, one after the other through all there are; what was found is looked at again, a few runs in a
 * round, by whichever process is the watchdog, because the raised alert itself says where.
 */
import {
  type Drift,
  drifted,
  type FailureSample,
  failureRates,
  failureShare,
  manyFailed,
  type RunCounts,
  withinWindow,
} from '../core/anomaly.ts';
import { DELIVERY_STATES, LedgerPage } from '../core/ledger-page.ts';
import type { AlertDoc } from '../store/documents.ts';
import { sumPages } from '../store/ledger-sums.ts';
import { finishedRuns, type PageBooks, pageBooks, type RunProgress, runProgress } from '../store/watch.ts';
import { asRaised, type Check, inTurn, type WatchdogContext } from './watchdog-check.ts';

/** How long the failures of a finished run are an alert, where nobody acknowledges it, ms. */
const FINISHED_TOLD_MS = 3_600_000;
const PAGES_PER_ROUND = 100;
const REPORTS_PER_ROUND = 1;

const MANY_FAILED = 'many_failed';

export function checkFailures({ store, limits, serverNow }: WatchdogContext): Check {
  const samples = new Map<string, FailureSample[]>();
  return {
    name: 'failures',
    kinds: [MANY_FAILED, 'failure_rate'],
    look: async ({ runs, raised, askedAt }) => {
      const now = serverNow().getTime();
      const open = new Set(runs.map(({ _id }) => _id));
      for (const runId of samples.keys()) if (!open.has(runId)) samples.delete(runId);
      for (const run of runs) {
        const { sent, failed } = countsOf(run);
        // Of a young run all that happened counts, whoever watched it until now; not of one that sends anew by an order.
        const ageMs = now - run.openedAt.getTime();
        const before =
          samples.get(run._id) ??
          (run.report === undefined && ageMs < limits.failureWindowMs
            ? [{ atMs: askedAt - ageMs, sent: 0, failed: 0 }]
            : []);
        samples.set(
          run._id,
          withinWindow([...before, { atMs: askedAt, sent, failed }], askedAt, limits.failureWindowMs),
        );
      }
      const told = raised.filter(({ kind }) => kind === MANY_FAILED);
      const ended = await runProgress(
        store,
        runIdsOf(told).filter((runId) => !open.has(runId)),
      );
      const acknowledged = new Set(runIdsOf(told.filter((alert) => alert.acknowledged !== undefined)));
      const counted = [...runs, ...ended.filter((run) => isNews(run, acknowledged, now))].map(countsOf);
      const rates = runs.map((run) => ({ ...countsOf(run), samples: samples.get(run._id) ?? [] }));
      // Of what happened before this process began to watch it knows nothing.
      const unknown = new Set(
        rates.flatMap(({ runId, samples }) => {
          const watchedMs = askedAt - (samples[0]?.atMs ?? askedAt);
          const tooLittle = failureShare(samples, limits.failureMinimum) === undefined;
          return tooLittle && watchedMs < limits.failureWindowMs ? [runId] : [];
        }),
      );
      const before = raised.filter(
        ({ kind, detail }) => kind === 'failure_rate' && unknown.has(String(detail?.runId)),
      );
      return [
        ...manyFailed(counted, limits.failedAbove),
        ...failureRates(rates, limits),
        ...before.map(asRaised),
      ];
    },
    forget: () => samples.clear(),
  };
}

/** The failures of a run that has ended stay an alert for an hour, or until somebody has seen it. */
function isNews({ _id, report }: RunProgress, acknowledged: ReadonlySet<string>, now: number): boolean {
  return (
    !acknowledged.has(_id) && report !== undefined && now - report.finishedAt.getTime() < FINISHED_TOLD_MS
  );
}

function countsOf({
  _id: runId,
  campaignId,
  name,
  total = 0,
  status,
  report,
  checkpoint,
}: RunProgress): RunCounts {
  const known = report !== undefined && status !== 'sending' ? report : checkpoint;
  return {
    runId,
    campaignId: campaignId.toHexString(),
    name,
    total,
    sent: known?.sent ?? 0,
    failed: known?.failed ?? 0,
  };
}

function runIdsOf(alerts: readonly AlertDoc[]): string[] {
  return alerts.flatMap(({ detail }) => (typeof detail?.runId === 'string' ? [detail.runId] : []));
}

export function checkBooks({ store }: WatchdogContext): Check {
  let page = '';
  let run = '';
  let lastTold = '';
  /** Reports that differed at the last look: a truth may just have come, so they are looked at once more. */
  let doubtful = new Set<string>();
  return {
    name: 'books',
    kinds: ['ledger_drift'],
    look: async ({ raised }) => {
      const all = raised.filter(({ kind }) => kind === 'ledger_drift');
      const turn = inTurn(
        all.map(({ _id }) => _id),
        lastTold,
      );
      lastTold = turn.at(-1) ?? '';
      const told = all.filter(({ _id }) => turn.includes(_id));
      const others = all.filter(({ _id }) => !turn.includes(_id));
      const again = told.flatMap(({ detail }) => (detail?.pageIds as string[] | undefined) ?? []);
      const books = await pageBooks(store, page, PAGES_PER_ROUND, again);
      page = books.rolling.length < PAGES_PER_ROUND ? '' : (books.rolling.at(-1)?._id ?? '');
      const drifts = new Map<string, string[]>();
      for (const wrong of [...books.also, ...books.rolling].filter(contradicts)) {
        const pages = drifts.get(wrong.runId) ?? [];
        if (!pages.includes(wrong._id)) drifts.set(wrong.runId, [...pages, wrong._id]);
      }

      const rolling = await finishedRuns(store, run, REPORTS_PER_ROUND);
      run = rolling.at(-1)?._id ?? '';
      const runsAgain = [...doubtful, ...runIdsOf(told)];
      const found = new Map(
        [...rolling, ...(await runProgress(store, runsAgain))].map((one) => [one._id, one]),
      );
      const wrongReports = new Set<string>();
      for (const one of found.values()) if (await reportDiffers(store, one)) wrongReports.add(one._id);
      const raisedAlready = new Set(runIdsOf(all));
      for (const runId of wrongReports) {
        if (!drifts.has(runId) && (doubtful.has(runId) || raisedAlready.has(runId))) drifts.set(runId, []);
      }
      doubtful = new Set([...wrongReports].filter((runId) => !drifts.has(runId)));
      const news = drifted(
        [...drifts].map(([runId, pageIds]): Drift => ({ runId, campaignId: runId.slice(0, 24), pageIds })),
      );
      return [...others.map(asRaised), ...news];
    },
  };
}

/** Counts and outcomes of a page are written together, so one look is enough. */
function contradicts({ states, counts }: PageBooks): boolean {
  if (states === undefined) return false;
  try {
    const recount = new LedgerPage(states.length, { states }).counts;
    return DELIVERY_STATES.some((state) => recount[state] !== (counts?.[state] ?? 0));
  } catch {
    return true; // a letter that means nothing
  }
}

async function reportDiffers(store: WatchdogContext['store'], run: RunProgress): Promise<boolean> {
  const { _id: runId, status, report, pages = 0, total = 0, orderNo } = run;
  if (status !== 'finished' || report === undefined) return false;
  const sum = await sumPages(store, { runId, pages, total });
  // Pages that are at work again, or that are gone, say nothing about the report.
  if (sum.late || sum.donePages < pages || sum.minOrderNo < orderNo) return false;
  return (['sent', 'failed', 'skipped', 'unknown'] as const).some(
    (state) => sum.counts[state] !== report[state],
  );
}
