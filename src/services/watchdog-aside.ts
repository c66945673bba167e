/**
 * Pages and recipients that were put aside because workers died on them. Whoever puts one aside tells it at once; here it is
 * seen when that is over, however it ended, and a page is told of whose holder died before it could. Invariant: reads only.
 */
import { PAGE_PARKED, parkedNews, RECIPIENT_QUARANTINED } from '../core/crash-loop.ts';
import type { AlertDoc } from '../store/documents.ts';
import { countQuarantined } from '../store/standing.ts';
import { parkedPages, runProgress, stillParked } from '../store/watch.ts';
import type { Check, WatchdogContext } from './watchdog-check.ts';

const MOST_TOLD = 100;

export function checkAside({ store }: WatchdogContext): Check {
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
      const aside = raised.filter(({ kind }) => kind === RECIPIENT_QUARANTINED);
      const theirRuns = await runProgress(store, aside.map(runIdOf));
      const left: AlertDoc[] = still.flatMap((pageId) => pageIds.get(pageId) ?? []);
      for (const alert of aside) {
        const { pages = 0 } = theirRuns.find(({ _id }) => _id === runIdOf(alert)) ?? {};
        if ((await countQuarantined(store, { runId: runIdOf(alert), pages })) > 0) left.push(alert);
      }
      return [
        ...left.map(({ _id: key, kind, level, message, campaignId, detail }) => {
          return {
            ...{ key, kind, level, message },
            ...(campaignId === undefined ? {} : { campaignId }),
            ...(detail === undefined ? {} : { detail }),
          };
        }),
        ...untold.flatMap(({ runId, n }) => {
          const run = byId.get(runId);
          return run === undefined
            ? []
            : [parkedNews({ runId, name: run.name, campaignId: run.campaignId.toHexString() }, n)];
        }),
      ];
    },
  };
}

function runIdOf({ detail }: AlertDoc): string {
  return typeof detail?.runId === 'string' ? detail.runId : '';
}
