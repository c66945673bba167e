/**
 * What `why` reads of the ledger and of other campaigns: sums and a few names, in one round trip each, whatever the size of
 * the audience. Reads only, and decides nothing.
 */
import type { ObjectId } from 'mongodb';
import { QUARANTINED } from '../core/crash-loop.ts';
import type { Counts } from '../core/ledger-page.ts';
import type { ClaimFacts, OtherCampaign, PageFacts } from '../core/standing.ts';
import { type PageStatus, SCHEMA_VERSION } from './documents.ts';
import { COUNT_SUMS, totalCounts } from './ledger-sums.ts';
import { MAJORITY, type Store } from './store.ts';

/** Pages whose recipients' zones are looked at: those that are sent first. */
const ZONE_PAGES = 1_000;
const MAX_OTHERS = 100;

interface Row extends Counts {
  readonly _id: { readonly status: PageStatus; readonly workerId?: string };
  readonly n: number;
  readonly behind: number;
  readonly newer: number;
  readonly dueAt: Date | null;
  readonly settling: number;
  readonly waitMs: number | null;
}

/** The pages of a run, summed. `pages`: those that count; recipients of untouched pages are pending. */
export async function readPageFacts(
  store: Store,
  run: { readonly runId: string; readonly pages: number; readonly total: number; readonly orderNo: number },
): Promise<PageFacts> {
  const countIf = (...conditions: unknown[]) => ({ $sum: { $cond: [{ $and: conditions }, 1, 0] } });
  const has = (letter: string) => ({ $gte: [{ $indexOfBytes: ['$states', letter] }, 0] });
  const rows = await store.ledgerPages
    .aggregate<Row>(
      [
        { $match: { runId: run.runId, n: { $lt: run.pages } } },
        {
          $group: {
            _id: { status: '$status', workerId: '$claim.workerId' },
            n: { $sum: 1 },
            ...COUNT_SUMS,
            behind: countIf({ $ne: ['$status', 'claimed'] }, { $lt: ['$orderNo', run.orderNo] }),
            newer: countIf({ $gt: ['$schemaVersion', SCHEMA_VERSION] }),
            dueAt: { $min: '$dueAt' },
            // Nobody on it has an intent or waits for one: only the earlier holder's recipients are open.
            settling: countIf({ $gt: [{ $size: { $ifNull: ['$unsettled', []] } }, 0] }, has('?'), {
              $not: [{ $or: [has('>'), has('.')] }],
            }),
            waitMs: { $max: { $max: '$unsettled.waitMs' } },
          },
        },
      ],
      MAJORITY,
    )
    .toArray();
  return factsOf(rows, run.total);
}

function factsOf(rows: readonly Row[], total: number): PageFacts {
  const of = (status: PageStatus): readonly Row[] => rows.filter((row) => row._id.status === status);
  const sum = (some: readonly Row[], field: 'n' | 'behind' | 'newer'): number =>
    some.reduce((all, row) => all + row[field], 0);
  const claims = of('claimed').map((row): ClaimFacts => {
    const { n: pages, settling, waitMs } = row;
    return { workerId: row._id.workerId ?? '', pages, settling, waitMs: waitMs ?? 0 };
  });
  return {
    counts: totalCounts(rows, total),
    pending: sum(of('pending'), 'n'),
    waiting: sum(of('waiting'), 'n'),
    claimed: sum(of('claimed'), 'n'),
    parked: sum(of('parked'), 'n'),
    behind: sum(rows, 'behind'),
    newer: sum([...of('pending'), ...of('waiting')], 'newer'),
    dueAt: of('waiting')[0]?.dueAt ?? null,
    claims,
  };
}

/** Recipients of a run that were put aside because they stop their workers. Looks only at pages with unknown ones. */
export async function countQuarantined(
  store: Store,
  run: { readonly runId: string; readonly pages: number },
): Promise<number> {
  const aside = {
    $filter: {
      input: { $objectToArray: { $ifNull: ['$details', {}] } },
      cond: { $eq: ['$$this.v.code', QUARANTINED] },
    },
  };
  const [row] = await store.ledgerPages
    .aggregate<{ recipients: number }>(
      [
        { $match: { runId: run.runId, n: { $lt: run.pages }, 'counts.unknown': { $gt: 0 } } },
        { $group: { _id: null, recipients: { $sum: { $size: aside } } } },
      ],
      MAJORITY,
    )
    .toArray();
  return row?.recipients ?? 0;
}

export interface ZoneCount {
  /** Their own zone; `undefined`: none. */
  readonly timezone: string | undefined;
  readonly left: number;
}

/**
 * The zones of the recipients that are left, of the first 1,000 pages that are not done. `whole`: there are no more pages.
 * Two round trips; a page has the recipients of one zone.
 */
export async function readZonesLeft(
  store: Store,
  run: { readonly runId: string; readonly audienceId: string; readonly pages: number },
): Promise<{ readonly zones: readonly ZoneCount[]; readonly whole: boolean }> {
  const open = await store.ledgerPages
    .find(
      {
        runId: run.runId,
        n: { $lt: run.pages },
        status: { $in: ['pending', 'waiting', 'claimed', 'parked'] as PageStatus[] },
      },
      { projection: { n: 1, counts: 1 } },
    )
    .limit(ZONE_PAGES + 1)
    .toArray();
  const whole = open.length <= ZONE_PAGES;
  const pages = open.slice(0, ZONE_PAGES);
  const found = await store.audiencePages
    .aggregate<{ n: number; timezone?: string; size: number }>([
      { $match: { audienceId: run.audienceId, n: { $in: pages.map(({ n }) => n) } } },
      { $project: { _id: 0, n: 1, timezone: 1, size: { $size: '$recipients' } } },
    ])
    .toArray();
  const counts = new Map(pages.map((page) => [page.n, page.counts]));
  const left = new Map<string | undefined, number>();
  for (const { n, timezone, size } of found) {
    const known = counts.get(n);
    const more = known === undefined ? size : known.pending + known.sending + known.retrying;
    left.set(timezone, (left.get(timezone) ?? 0) + more);
  }
  return { zones: [...left].map(([timezone, count]) => ({ timezone, left: count })), whole };
}

/** Campaigns that send with this messenger, of this priority or a higher one, the highest first; at most 100. */
export async function otherSenders(
  store: Store,
  campaign: { readonly id: ObjectId; readonly messenger: string; readonly priority: number },
): Promise<OtherCampaign[]> {
  const found = await store.campaigns
    .find(
      {
        status: 'processing',
        messenger: campaign.messenger,
        priority: { $gte: campaign.priority },
        'openRuns.0': { $exists: true },
        _id: { $ne: campaign.id },
      },
      { projection: { name: 1, priority: 1 } },
    )
    .sort({ priority: -1 })
    .limit(MAX_OTHERS)
    .toArray();
  return found.map(({ _id, name, priority }) => ({ id: _id.toHexString(), name, priority }));
}
