/**
 * What is to be expected of a campaign, in words: its next hours of sending and its projected end, given its rates and the
 * recipients left. Invariant: only reads; nothing is projected from a rate that nobody set.
 */

import { settledCount } from './core/ledger-page.ts';
import { tokensPerMs } from './core/rate.ts';
import { zoneOf } from './core/send-window.ts';
import { RECIPIENT_ZONE, type SendWindow } from './core/send-window-check.ts';
import { explainWindow } from './core/send-window-explain.ts';
import { projectEnd, type RecipientsLeft } from './core/send-window-forecast.ts';
import type { CreationOptions } from './create-campaign.ts';
import { sizeOf } from './delivery/closing.ts';
import { audienceSizes, audienceZones, readAudience } from './store/audiences.ts';
import type { CampaignDoc, RunDoc } from './store/documents.ts';
import { decodePage, readPages } from './store/ledger-pages.ts';
import { sumPages } from './store/ledger-sums.ts';
import { readRun } from './store/runs.ts';
import type { Store } from './store/store.ts';

/** Lines for people. Rates that only another process knows (of a messenger that is not here) are left out. */
export async function explainCampaign(context: CreationOptions, campaign: CampaignDoc): Promise<string[]> {
  const { store, serverNow, options } = context;
  const open = campaign.openRuns[0];
  const run = open === undefined ? null : await readRun(store, open.runId);
  const { window, rate } = run?.limits ?? campaign.limits;
  const rates = [rate, options.messengers[campaign.messenger]?.rate].filter((each) => each !== undefined);
  const ratePerSecond = rates.length === 0 ? undefined : 1000 * Math.min(...rates.map(tokensPerMs));
  const now = serverNow().getTime();
  const at = new Date(run === null ? Math.max(now, campaign.nextRunAt?.getTime() ?? now) : now);
  const left = await recipientsLeft(store, campaign, run, window);
  const lines = campaign.status === 'paused' ? ['Paused: what follows holds once it is resumed.'] : [];
  if (window !== undefined)
    return [...lines, ...explainWindow(window, { at, recipients: left, ratePerSecond })];
  lines.push('Sends at any time.');
  const count = left.reduce((sum, each) => sum + each.left, 0);
  if (left.length === 0) return lines;
  lines.push(`${count.toLocaleString('en-US')} left.`);
  const always = [{ opensAt: at, closesAt: null }];
  const end = projectEnd({ intervals: always, ratePerSecond, left: count, from: at });
  if (end.reason === 'no_rate') lines.push('No end is projected: the rate is not known.');
  else {
    const per = ratePerSecond?.toLocaleString('en-US', { maximumSignificantDigits: 3 }) ?? '';
    const when = end.endsAt === null ? 'more than a year away' : end.endsAt.toISOString();
    lines.push(per === '' ? `Projected end: ${when}.` : `Projected end at ${per} per second: ${when}.`);
  }
  return lines;
}

/** Empty: nobody knows yet, because a source has not been read. */
async function recipientsLeft(
  store: Store,
  campaign: CampaignDoc,
  run: RunDoc | null,
  window: SendWindow | undefined,
): Promise<RecipientsLeft[]> {
  const byZone = window?.timezone === RECIPIENT_ZONE ? window : undefined;
  const audienceId =
    run?.audienceId ?? ('audienceId' in campaign.audience ? campaign.audience.audienceId : undefined);
  if (audienceId === undefined) return [];
  const begun = run?.audienceId === undefined ? null : run;
  if (byZone === undefined) {
    if (begun === null) return [{ left: (await readAudience(store, audienceId))?.total ?? 0 }];
    const { counts } = await sumPages(store, sizeOf(begun));
    return [{ left: (begun.total ?? 0) - settledCount(counts) }];
  }
  const [sizes, zones] = await Promise.all([
    audienceSizes(store, audienceId),
    audienceZones(store, audienceId),
  ]);
  const left = new Map(sizes);
  if (begun !== null) {
    for await (const page of readPages(store, begun._id, begun.pages ?? 0)) {
      const size = sizes.get(page.n) ?? 0;
      left.set(page.n, size - settledCount(decodePage(page, size).counts));
    }
  }
  const perZone = new Map<string, number>();
  for (const [n, count] of left) {
    const zone = zoneOf(byZone, zones.get(n));
    perZone.set(zone, (perZone.get(zone) ?? 0) + count);
  }
  return [...perZone].map(([timezone, count]) => ({ timezone, left: count }));
}
