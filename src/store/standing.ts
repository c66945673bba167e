/**
 * What `why` reads of the ledger and of other campaigns: sums and a few names, in one round trip each, whatever the size of
 * the audience. Reads only, and decides nothing.
 */
import type { Filter, ObjectId } from 'mongodb';
import { QUARANTINED } from '../core/crash-loop.ts';
import type { Counts } from '../core/ledger-page.ts';
import type { ClaimFacts, OtherCampaign, PageFacts } from '../core/standing.ts';
import { type LedgerPageDoc, type PageStatus, SCHEMA_VERSION } from './documents.ts';
import { COUNT_SUMS, totalCounts } from './ledger-sums.ts';
import { MAJORITY, type Store } from './store.ts';

/** Pages whose recipients' zones are looked at: those that are sent first. */
const ZONE_PAGES = 1_000;
const MAX_OTHERS = 100;
const MOST_OTHERS = 1_000;
const OPEN_PAGE = { $in: ['pending', 'waiting', 'claimed', 'parked'] as PageStatus[] };

interface Row extends Counts {
  readonly _id: {
    readonly runId: string;
    readonly status: PageStatus;
    readonly workerId?: string;
    readonly orderNo: number;
  };
  readonly n: number;
  readonly first: number;
  readonly newer: number;
  readonly dueAt: Date | null;
  readonly settling: number;
  readonly waitMs: number | null;
}

export interface RunOfPages {
  readonly runId: string;
  /** Those that count; recipients of untouched ones are pending. */
  readonly pages: number;
  readonly total: number;
  readonly orderNo: number;
}

/** The pages of runs, summed; one question for all of them. */
export async function readPageFacts(
  store: Store,
  runs: readonly RunOfPages[],
): Promise<Map<string, PageFacts>> {
  const countIf = (...conditions: unknown[]) => ({ $sum: { $cond: [{ $and: conditions }, 1, 0] } });
  const has = (letter: string) => ({ $gte: [{ $indexOfBytes: ['$states', letter] }, 0] });
  const rows = await store.ledgerPages
    .aggregate<Row>(
      [
        { $match: pagesOf(runs) },
        {
          $group: {
            _id: { runId: '$runId', status: '$status', workerId: '$claim.workerId', orderNo: '$orderNo' },
            n: { $sum: 1 },
            first: { $min: '$n' },
            ...COUNT_SUMS,
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
  const byRun = new Map<string, Row[]>(runs.map(({ runId }) => [runId, []]));
  for (const row of rows) byRun.get(row._id.runId)?.push(row);
  return new Map(
    runs.map((run) => {
      const counted = (byRun.get(run.runId) ?? []).filter(({ first }) => first < run.pages);
      return [run.runId, factsOf(counted, run)];
    }),
  );
}

/**
 * A condition for each run would cost five times as much. Of one run these are exactly the pages that count; of many there
 * may be pages among them that an abandoned freezing attempt left: pending, and each is one more than there should be.
 */
function pagesOf(runs: readonly Pick<RunOfPages, 'runId' | 'pages'>[]): Filter<LedgerPageDoc> {
  return {
    runId: { $in: runs.map(({ runId }) => runId) },
    n: { $lt: Math.max(...runs.map(({ pages }) => pages)) },
  };
}

function factsOf(rows: readonly Row[], { pages, total, orderNo }: RunOfPages): PageFacts {
  const beyond = Math.max(0, sumOf(rows, 'n') - pages);
  const of = (status: PageStatus): readonly Row[] => rows.filter((row) => row._id.status === status);
  const dueAt = of('waiting').flatMap((row) => (row.dueAt === null ? [] : [row.dueAt.getTime()]));
  return {
    counts: totalCounts(rows, total),
    pending: sumOf(of('pending'), 'n') - beyond,
    waiting: sumOf(of('waiting'), 'n'),
    claimed: sumOf(of('claimed'), 'n'),
    parked: sumOf(of('parked'), 'n'),
    behind: sumOf(
      rows.filter(({ _id }) => _id.status !== 'claimed' && _id.orderNo < orderNo),
      'n',
    ),
    newer: sumOf([...of('pending'), ...of('waiting')], 'newer'),
    dueAt: dueAt.length === 0 ? null : new Date(Math.min(...dueAt)),
    claims: claimsOf(of('claimed')),
  };
}

function sumOf(rows: readonly Row[], field: 'n' | 'newer'): number {
  return rows.reduce((all, row) => all + row[field], 0);
}

function claimsOf(rows: readonly Row[]): ClaimFacts[] {
  const claims = new Map<string, ClaimFacts>();
  for (const { _id, n, settling, waitMs } of rows) {
    const { workerId = '' } = _id;
    const before = claims.get(workerId) ?? { workerId, pages: 0, settling: 0, waitMs: 0 };
    claims.set(workerId, {
      workerId,
      pages: before.pages + n,
      settling: before.settling + settling,
      waitMs: Math.max(before.waitMs, waitMs ?? 0),
    });
  }
  return [...claims.values()];
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
        status: OPEN_PAGE,
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

/** The zones of the pages of these runs that are not done, however many are left in each; one question. */
export async function openZones(
  store: Store,
  runs: readonly { readonly runId: string; readonly pages: number }[],
): Promise<Map<string, (string | undefined)[]>> {
  const rows = await store.ledgerPages
    .aggregate<{ _id: { runId: string; timezone: string | null }; first: number }>([
      { $match: { ...pagesOf(runs), status: OPEN_PAGE } },
      {
        $group: {
          _id: { runId: '$runId', timezone: { $ifNull: ['$timezone', null] } },
          first: { $min: '$n' },
        },
      },
    ])
    .toArray();
  const pages = new Map(runs.map((run) => [run.runId, run.pages]));
  const zones = new Map<string, (string | undefined)[]>();
  for (const { _id, first } of rows) {
    if (first >= (pages.get(_id.runId) ?? 0)) continue;
    zones.set(_id.runId, [...(zones.get(_id.runId) ?? []), _id.timezone ?? undefined]);
  }
  return zones;
}

/** Of a campaign: whom it may have to wait for. */
export interface Sender {
  readonly id: ObjectId;
  readonly messenger: string;
  readonly priority: number;
}

/**
 * For each of these: campaigns that send with its messenger, of its priority or a higher one, the highest first; at most
 * 100 for each, and 1,000 in all.
 */
export async function otherSenders(
  store: Store,
  senders: readonly Sender[],
): Promise<Map<string, OtherCampaign[]>> {
  const messengers = [...new Set(senders.map(({ messenger }) => messenger))];
  const found = await store.campaigns
    .find(
      {
        status: 'processing',
        messenger: { $in: messengers },
        priority: { $gte: Math.min(...senders.map(({ priority }) => priority)) },
        'openRuns.0': { $exists: true },
      },
      { projection: { name: 1, priority: 1, messenger: 1 } },
    )
    .sort({ priority: -1 })
    .limit(Math.min(MOST_OTHERS, (MAX_OTHERS + 1) * messengers.length + senders.length))
    .toArray();
  const byMessenger = new Map<string, OtherCampaign[]>();
  for (const { _id, name, messenger, priority } of found) {
    const others = byMessenger.get(messenger) ?? [];
    others.push({ id: _id.toHexString(), name, priority });
    byMessenger.set(messenger, others);
  }
  return new Map(
    senders.map(({ id, messenger, priority }) => {
      const own = id.toHexString();
      // The highest come first: with itself left out there are enough among these.
      const first = (byMessenger.get(messenger) ?? []).slice(0, MAX_OTHERS + 1);
      const others = first.filter((other) => other.priority >= priority && other.id !== own);
      return [own, others.slice(0, MAX_OTHERS)];
    }),
  );
}
