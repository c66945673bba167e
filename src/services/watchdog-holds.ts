/**
 * What is held: alarms, pages and sources that are being read. What a worker that is gone holds is released; what a living
 * one holds is taken only when nothing has come of it for long and it has no reason to wait. Invariant: what counts is
 * progress seen by this watchdog's own monotonic clock, never age alone; and every taking is a write that names what was
 * read last, by which its holder loses its token and nothing else.
 */
import type { AlertNews } from '../core/alert-policy.ts';
import { orphanedPages } from '../core/anomaly.ts';
import { freezePatienceMs } from '../core/freezing.ts';
import { Watch } from '../core/liveness.ts';
import type { ReasonCode } from '../core/standing.ts';
import { declareDead } from '../store/audiences.ts';
import type { AudienceDoc } from '../store/documents.ts';
import { decodePage, readPage } from '../store/ledger-pages.ts';
import { type ClaimProgress, claimProgress, freezes, signOf } from '../store/watch.ts';
import { takeOver } from './claim-watch.ts';
import { asRaised, type Check, Motion, type WatchdogContext } from './watchdog-check.ts';

const MOST_ALARMS = 500;
/** Pages and sources that are taken in one round. */
const MOST_TAKEN = 20;
/** A holder that renews in between must not keep its page by luck. */
const TRIES = 3;

/** A page may stand still for these. */
const WAITS: ReadonlySet<ReasonCode> = new Set<ReasonCode>([
  'paused',
  'breaker_open',
  'rate',
  'messenger_resting',
  'window_closed',
  'retry_at',
  'settling',
  'parked',
  'quarantined',
  'newer_version',
]);

/** Alarms held by workers that are gone ring again. */
export function checkAlarms({ alarms, clock, limits, logger }: WatchdogContext): Check {
  const watch = new Watch();
  return {
    name: 'alarms',
    kinds: ['alarm_stuck'],
    look: async ({ live, offline }) => {
      const askedAt = clock.monotonic();
      const locked = await alarms.locked(MOST_ALARMS);
      const still = new Set(
        watch
          .look(
            locked.map(({ id, lockToken }) => {
              return { key: id, token: lockToken ?? '', seq: 0, ttlMs: limits.stuckAfterMs };
            }),
            askedAt,
            clock.monotonic(),
          )
          .map(({ key }) => key),
      );
      const news: AlertNews[] = [];
      for (const { id, lockToken, lastModifiedBy: heldBy, campaignId } of locked) {
        const gone = heldBy === null || !live.has(heldBy);
        const release = heldBy !== null && offline.has(heldBy) ? true : gone && still.has(id);
        if (!release || lockToken === null || !(await alarms.release(id, lockToken))) continue;
        logger.warn({ campaignId, heldBy }, 'an alarm was held by a worker that is gone: it rings again');
        if (!still.has(id)) continue;
        news.push({
          key: `alarm:stuck:${campaignId}`,
          kind: 'alarm_stuck',
          level: 'warning',
          message: 'the alarm of a campaign was held by a worker that is gone; it rings again',
          campaignId,
          detail: { heldBy },
        });
      }
      return news;
    },
    forget: () => watch.forget(),
  };
}

/** Sources that are read without a row coming. The attempt has failed; the next one may be silent for longer. */
export function checkFreezes({ store, clock, limits, logger }: WatchdogContext): Check {
  const watch = new Watch();
  return {
    name: 'freezes',
    kinds: ['freeze_stuck'],
    look: async ({ offline, runs }) => {
      const askedAt = clock.monotonic();
      const reading = await freezes(store);
      const bases = new Map(runs.map(({ _id, freezeBase }) => [_id, freezeBase]));
      const patienceMs = ({ owner }: AudienceDoc): number => {
        if (owner.kind !== 'run') return limits.stuckAfterMs;
        return freezePatienceMs(owner.attempt - (bases.get(owner.runId) ?? 0), limits.stuckAfterMs);
      };
      const still = new Set(
        watch
          .look(
            // What an older version reads does not tell how far it is.
            reading.flatMap((audience) => {
              const { _id, lease, rowsRead } = audience;
              if (rowsRead === undefined) return [];
              const token = `${lease.token}:${rowsRead}`;
              return [{ key: _id, token, seq: 0, ttlMs: patienceMs(audience) }];
            }),
            askedAt,
            clock.monotonic(),
          )
          .map(({ key }) => key),
      );
      const news: AlertNews[] = [];
      for (const audience of reading) {
        const { _id, owner, lease, rowsRead } = audience;
        if (owner.kind !== 'run') continue;
        if (offline.has(lease.workerId))
          await declareDead(store, audience, 'the worker that read the source died');
        if (!still.has(_id)) continue;
        const error = `no row came for ${patienceMs(audience)} ms after the first ${rowsRead}`;
        const declared = await declareDead(store, audience, error);
        if (declared)
          logger.warn({ audience: _id, rowsRead }, 'a source gives no more rows: it is read anew');
        news.push({
          key: `freeze:stuck:${owner.runId}`,
          kind: 'freeze_stuck',
          level: 'warning',
          message: `a source gives no more rows (${rowsRead} so far); ${declared ? 'it is read anew' : 'it is still being read'}`,
          campaignId: owner.runId.slice(0, 24),
          detail: {
            runId: owner.runId,
            attempt: owner.attempt,
            rowsRead: rowsRead ?? 0,
            workerId: lease.workerId,
          },
        });
      }
      return news;
    },
    forget: () => watch.forget(),
  };
}

/** Pages of which nothing becomes. */
export function checkPages(context: WatchdogContext): Check {
  const { store, clock, limits } = context;
  const watch = new Watch();
  const motion = new Motion();
  return {
    name: 'pages',
    kinds: ['page_stuck', 'pages_orphaned'],
    look: async ({ live, offline, raised }) => {
      const askedAt = clock.monotonic();
      const claims = await claimProgress(store);
      const ownTokens = new Set(context.takingOver?.sharing.ownTokens);
      const still = new Set(
        watch
          .look(
            claims.map(({ pageId, claim, sign, waitMs }) => {
              // Its sends may take as long as its own setting says, and it may have to wait for those of others.
              const ttlMs = Math.max(limits.stuckAfterMs, claim.sendTimeoutMs + 1, claim.ttlMs, 2 * waitMs);
              return { key: pageId, token: claim.token + sign, seq: 0, ttlMs };
            }),
            askedAt,
            clock.monotonic(),
          )
          .map(({ key }) => key),
      );
      motion.look(claims.map(({ pageId, claim, sign }) => ({ key: pageId, sign: claim.token + sign })));
      const judged = new Set<string>();
      const news: AlertNews[] = [];
      const orphaned: { pageId: string; workerId: string }[] = [];
      let left = MOST_TAKEN;
      for (const seen of claims) {
        const { pageId, claim } = seen;
        const { workerId } = claim;
        const isStill = still.has(pageId);
        if (!isStill && !offline.has(workerId)) continue;
        left -= 1;
        const may = left >= 0 && !ownTokens.has(claim.token);
        if (!live.has(workerId)) {
          // Those of workers that are gone are taken over by their silence; after a longer one than that here.
          const taken = may && offline.has(workerId) && (await take(context, seen, false));
          if (!taken && isStill) orphaned.push({ pageId, workerId });
          if (taken || isStill) judged.add(pageId);
        } else if (may || ownTokens.has(claim.token)) {
          judged.add(pageId);
          const stuck = await stuckPage(context, seen);
          if (stuck === undefined) continue;
          const taken = may && (await take(context, seen, true));
          news.push({ ...stuck, message: `${stuck.message}${taken ? '; another worker goes on' : ''}` });
        }
      }
      const open = claims.filter(({ pageId }) => motion.isStill(pageId) && !judged.has(pageId));
      const stuck = new Map(open.map(({ pageId, claim }) => [`page:stuck:${pageId}`, claim.workerId]));
      const mayBeOrphaned = orphaned.length === 0 && open.some(({ claim }) => !live.has(claim.workerId));
      const before = raised.filter(({ _id, kind, detail }) =>
        kind === 'page_stuck'
          ? stuck.get(_id) === detail?.workerId
          : kind === 'pages_orphaned' && mayBeOrphaned,
      );
      return [...news, ...orphanedPages(orphaned), ...before.map(asRaised)];
    },
    forget: () => {
      watch.forget();
      motion.forget();
    },
  };
}

/** Undefined: it moves after all, or has a reason to wait. */
async function stuckPage(context: WatchdogContext, seen: ClaimProgress): Promise<AlertNews | undefined> {
  const { store, limits, serverNow, why } = context;
  const { pageId, runId, claim, sign } = seen;
  const document = await readPage(store, pageId);
  if (document?.claim?.token !== claim.token || signOf(document) !== sign) return undefined;
  const page = decodePage(document, document.states?.length ?? 0);
  let changedAt = 0;
  for (let index = 0; index < page.size; index += 1) changedAt = Math.max(changedAt, page.at(index));
  if (serverNow().getTime() - changedAt < limits.stuckAfterMs) return undefined; // intents come and go
  const campaignId = runId.slice(0, 24);
  const standing = await why(campaignId);
  if (WAITS.has(standing.code)) return undefined;
  return {
    key: `page:stuck:${pageId}`,
    kind: 'page_stuck',
    level: 'warning',
    message: `nothing becomes of page ${document.n} although its worker lives`,
    campaignId,
    detail: { runId, page: document.n, workerId: claim.workerId, standing: standing.code },
  };
}

/** False also in a process that sends nothing. */
async function take(
  { takingOver, store }: WatchdogContext,
  seen: ClaimProgress,
  lives: boolean,
): Promise<boolean> {
  if (takingOver === undefined) return false;
  let taken = false;
  await takingOver.sharing.whileTaking(async () => {
    for (let tries = 0; tries < TRIES && !taken; tries += 1) {
      const document = await readPage(store, seen.pageId);
      if (document?.claim?.token !== seen.claim.token || signOf(document) !== seen.sign) return;
      // Its holder learns of it with its next flush, or at the end of its trust: until then what it has intents for may leave.
      taken = await takeOver(takingOver, seen, document.claim, {
        stillTrustedMs: document.claim.ttlMs,
        lives,
      });
    }
  });
  return taken;
}
