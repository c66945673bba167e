/**
 * Watches every claim in the cluster that is not this process's own, and takes a page over when its holder has been silent
 * for the holder's own time. What the holder had in flight gets the state that the campaign's `onUnknown` asks for, in the
 * same write that takes the page.
 */

import { verdictOnDeath } from '../core/crash-loop.ts';
import { type Sighting, Watch } from '../core/liveness.ts';
import { abandon, applyLateTruths } from '../core/settlement.ts';
import { type HoldEnvironment, momentOf, newClaim } from '../delivery/hold-environment.ts';
import type { RunSharing } from '../delivery/run-sharing.ts';
import { aboutRun, type EventBus } from '../events.ts';
import { inParallel } from '../in-parallel.ts';
import { readAudiencePage } from '../store/audiences.ts';
import type { Claim, RunDoc } from '../store/documents.ts';
import type { Journal } from '../store/journal.ts';
import { readClaims, takeOverPage, type WatchedClaim } from '../store/ledger-claims.ts';
import { decodePage, readPage } from '../store/ledger-pages.ts';
import { readRun } from '../store/runs.ts';
import { wasStopping } from '../store/workers.ts';
import { createDuty, type Duty } from './duty.ts';

export interface ClaimWatchOptions {
  readonly env: HoldEnvironment;
  readonly sharing: RunSharing;
  readonly journal: Journal;
  readonly events: EventBus;
}

/** A dead worker may leave hundreds of pages, each of which takes a few round trips. */
const TAKEN_AT_ONCE = 8;

const WORKER_LOST = {
  code: 'worker_lost',
  reason: 'the worker was lost between the intent and the outcome: nobody knows whether it left',
};

export function createClaimWatch(options: ClaimWatchOptions): Duty {
  const { env, sharing } = options;
  const watch = new Watch();
  return createDuty({
    name: 'claim-watch',
    everyMs: env.claimTtlMs / 4,
    clock: env.clock,
    logger: env.logger,
    run: async () => {
      let claims: WatchedClaim[];
      const askedAt = env.clock.monotonic();
      try {
        claims = await readClaims(env.store, sharing.ownTokens);
      } catch (error) {
        watch.forget();
        throw error;
      }
      const own = new Set(sharing.ownTokens); // those claimed while the query ran
      const byPage = new Map(claims.map((claim) => [claim.pageId, claim]));
      const dead = watch.look(
        claims
          .filter(({ claim }) => !own.has(claim.token))
          .map(({ pageId, claim }) => ({ key: pageId, ...claim })),
        askedAt,
        env.clock.monotonic(),
      );
      await inParallel(dead, TAKEN_AT_ONCE, async (sighting) => {
        const claim = byPage.get(sighting.key);
        if (claim !== undefined)
          await sharing.whileTaking(async () => {
            await takeOver(options, claim, sighting);
          });
      });
    },
  });
}

/** What is known of the holder of a page that is taken over. */
export interface OldHolder {
  /** How long it may still begin what it has intents for, ms; 0 of one that was silent for its own time. */
  readonly stillTrustedMs: number;
  /** Its end, if it has ended, says nothing about the page. */
  readonly lives: boolean;
}

/** Takes a page over. `sighting`: token and seq as read last. False: another has it, or there is nothing to take. */
export async function takeOver(
  options: ClaimWatchOptions,
  watched: Pick<WatchedClaim, 'pageId' | 'runId'>,
  sighting: Pick<Sighting, 'token' | 'seq'>,
  { stillTrustedMs, lives }: OldHolder = { stillTrustedMs: 0, lives: false },
): Promise<boolean> {
  const { env, sharing } = options;
  const { store, logger } = env;
  const [document, run] = await Promise.all([readPage(store, watched.pageId), readRun(store, watched.runId)]);
  const old = document?.claim;
  if (document === null || run === null || old?.token !== sighting.token || old.seq !== sighting.seq) {
    return false;
  }
  const [audience, stopping] = await Promise.all([
    readAudiencePage(store, run.audienceId ?? '', document.n),
    wasStopping(store, old.workerId),
  ]);
  if (audience === null) {
    logger.error(
      { page: watched.pageId },
      'the audience page of a ledger page is missing; it cannot be worked on',
    );
    return false;
  }

  const page = decodePage(document, audience.recipients.length);
  const sending = page.indices('sending');
  // Nothing of a cancelled campaign goes out again.
  const cancelled = run.orders.some((order) => order.kind === 'cancel');
  const policy = cancelled && run.limits.onUnknown !== 'give-up' ? 'hold' : run.limits.onUnknown;
  const { pageDeaths, suspicion } = verdictOnDeath(page, document.deaths, lives || stopping);
  abandon(page, sending, old.token, policy, WORKER_LOST, env.serverNow().getTime(), suspicion);
  applyLateTruths(page, document.late ?? []);
  const entry = {
    token: old.token,
    recipients: sending,
    waitMs: stillTrustedMs + old.sendTimeoutMs + env.claimMarginMs,
  };
  const claim = newClaim(env);
  const claimedAt = momentOf(env.clock);
  const taken = await takeOverPage(store, { pageId: watched.pageId, token: old.token, seq: old.seq }, claim, {
    columns: page.columns(),
    counts: page.counts,
    details: page.takeChangedDetails(),
    unsettled: [...(document.unsettled ?? []), ...(sending.length > 0 ? [entry] : [])],
    orderNo: document.orderNo,
    deaths: pageDeaths,
  });
  if (taken === null) return false; // not dead after all, or another worker was first
  sharing.adopt(taken, run, audience, claimedAt);
  await tell(options, run, document.n, old, sending.length);
  return true;
}

async function tell(
  { env, journal, events }: ClaimWatchOptions,
  run: RunDoc,
  page: number,
  old: Claim,
  unsettled: number,
): Promise<void> {
  env.logger.warn(
    { campaign: run.name, page, from: old.workerId, inFlight: unsettled },
    'took over a page from a lost worker',
  );
  await journal.write({
    campaignId: run.campaignId,
    runId: run._id,
    kind: 'page-taken-over',
    detail: { page, fromWorkerId: old.workerId, inFlight: unsettled },
  });
  events.emit('page:taken-over', {
    ...aboutRun(run),
    page,
    fromWorkerId: old.workerId,
    unsettled,
  });
}
