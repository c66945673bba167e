/**
 * Pages and recipients that were put aside because workers died on them. Whoever puts one aside tells it at once; here it is
 * seen when that is over, however it ended, and those are told whose holder died before it could. Invariant: reads only, and
 * a few runs in a round, one after the other: what was not looked at stands as it was.
 */
import type { AlertNews } from '../core/alert-policy.ts';
import { PAGE_PARKED, parkedNews, quarantinedNews, RECIPIENT_QUARANTINED } from '../core/crash-loop.ts';
import type { AlertDoc } from '../store/documents.ts';
import { countQuarantined } from '../store/standing.ts';
import type { Store } from '../store/store.ts';
import { parkedPages, type RunProgress, runProgress, stillParked } from '../store/watch.ts';
import { asRaised, type Check, inTurn, type WatchdogContext } from './watchdog-check.ts';

const MOST_TOLD = 100;
export function checkAside({ store }: WatchdogContext): Check {
  let lastTold = '';
  let lastOpen = '';
  return {
    name: 'put aside',
    kinds: [PAGE_PARKED, RECIPIENT_QUARANTINED],
    look: async ({ runs, raised }) => {
      const byId = new Map(runs.map((run) => [run._id, run]));
      const told = raised.filter(({ kind }) => kind === PAGE_PARKED);
      const pageIds = new Map(told.map((alert) => [alert._id.replace(/^parked:/, ''), alert]));
      const [parked, still] = await Promise.all([
        parkedPages(store, [...byId.keys()], MOST_TOLD),
        stillParked(store, [...pageIds.keys()]),
      ]);
      const untold = parked.filter(({ _id }) => !pageIds.has(_id));
      const left: AlertDoc[] = still.flatMap((pageId) => pageIds.get(pageId) ?? []);

      const aside = new Map(
        raised.filter(({ kind }) => kind === RECIPIENT_QUARANTINED).map((alert) => [runIdOf(alert), alert]),
      );
      const again = inTurn([...aside.keys()], lastTold);
      lastTold = again.at(-1) ?? '';
      const looked = new Set<string>();
      for (const run of await runProgress(store, again)) {
        if ((await quarantinedOf(store, run)).length > 0) looked.add(run._id);
      }
      for (const [runId, alert] of aside) if (looked.has(runId) || !again.includes(runId)) left.push(alert);
      const mayHave = runs.filter(({ _id, checkpoint: known }) => {
        return !aside.has(_id) && (known?.errors ?? 0) > (known?.failed ?? 0);
      });
      const next = inTurn(
        mayHave.map(({ _id }) => _id),
        lastOpen,
      );
      lastOpen = next.at(-1) ?? '';
      const news: AlertNews[] = left.map(asRaised);
      for (const runId of next) {
        const run = byId.get(runId);
        if (run !== undefined) news.push(...(await quarantinedOf(store, run)));
      }
      for (const { runId, n } of untold) {
        const run = byId.get(runId);
        if (run !== undefined) news.push(parkedNews(aboutRun(run), n));
      }
      return news;
    },
  };
}

/** Workers died on recipients of this run. */
export async function quarantinedOf(store: Store, run: RunProgress): Promise<AlertNews[]> {
  const { _id: runId, pages = 0 } = run;
  return (await countQuarantined(store, { runId, pages })) === 0 ? [] : [quarantinedNews(aboutRun(run))];
}

function aboutRun({ _id: runId, name, campaignId }: RunProgress) {
  return { runId, name, campaignId: campaignId.toHexString() };
}

function runIdOf({ detail }: AlertDoc): string {
  return typeof detail?.runId === 'string' ? detail.runId : '';
}
