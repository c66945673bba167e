/**
 * Runs and campaigns that should move and do not. Each is nudged, and its alarm rung, which any worker may do at any time;
 * people are told with the reason that `why` gives. Invariant: a run is asked about only when it was seen without progress
 * for long, and of all those a few in a round; what was found stands until the run moves.
 */
import type { AlertNews } from '../core/alert-policy.ts';
import { Watch } from '../core/liveness.ts';
import type { ReasonCode, Standing } from '../core/standing.ts';
import { alarmOf } from '../queue/alarm.ts';
import { parseId, readCampaign } from '../store/campaigns.ts';
import { asRaised, type Check, Motion, type Round, type WatchdogContext } from './watchdog-check.ts';

/** Asking why takes a few round trips. */
const ASKED_PER_ROUND = 5;

/** It should move and does not, and nothing here says until when. */
const STANDS: ReadonlySet<ReasonCode> = new Set<ReasonCode>([
  'opening',
  'alarm_missing',
  'overdue',
  'no_run',
  'not_adopted',
  'newer_version',
  'no_worker_for_source',
  'no_worker_for_messenger',
  'freezing_lost',
  'freezing_queued',
  'applying_orders',
  'taking_over',
  'waiting_for_turn',
  'closing',
]);

function stands(standing: Standing): boolean {
  if (standing.code === 'waiting_for_turn') return standing.ahead.length + standing.beside === 0;
  return STANDS.has(standing.code);
}

/** Something that may stand still. */
interface Mover {
  /** Of its alert. */
  readonly key: string;
  readonly campaignId: string;
  /** Changes when it moves. */
  readonly sign: string;
  readonly subject: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

interface Verdict {
  readonly code: ReasonCode;
  /** It should move. */
  readonly stands: boolean;
  /** Told once the same was found twice: what changes hands just now stands still for a moment. */
  readonly news?: AlertNews | undefined;
}

/** Runs that campaigns in progress are at. */
export function checkRuns(context: WatchdogContext): Check {
  return checkMovers(context, 'runs', 'run_stuck', ({ runs }) =>
    runs.map(({ _id: runId, campaignId, name, status, orderNo, checkpoint, heartbeat }) => ({
      key: `run:stuck:${runId}`,
      campaignId: campaignId.toHexString(),
      sign: JSON.stringify([status, orderNo, checkpoint ?? null, heartbeat?.recipient ?? null]),
      subject: `${name} does not move`,
      detail: { runId },
    })),
  );
}

/** Campaigns that should have begun. */
export function checkOverdue(context: WatchdogContext): Check {
  return checkMovers(context, 'overdue', 'campaign_overdue', ({ overdue }) =>
    overdue.map((campaignId) => ({
      key: `campaign:overdue:${campaignId}`,
      campaignId,
      sign: '',
      subject: 'a campaign that is due does not begin',
      detail: {},
    })),
  );
}

function checkMovers(
  context: WatchdogContext,
  name: string,
  kind: string,
  moversOf: (round: Round) => readonly Mover[],
): Check {
  const { limits, why } = context;
  const watch = new Watch();
  const motion = new Motion();
  /** What was found of those without progress, the one that was asked about longest ago first. */
  const found = new Map<string, Verdict>();
  return {
    name,
    kinds: [kind],
    look: async (round) => {
      const movers = new Map(moversOf(round).map((mover) => [mover.key, mover]));
      const sightings = [...movers.values()].map(({ key, sign }) => {
        return { key, token: sign, seq: 0, ttlMs: limits.stuckAfterMs };
      });
      const still = watch.look(sightings, round.askedAt, round.answeredAt).map(({ key }) => key);
      motion.look([...movers.values()]);
      for (const key of found.keys()) if (!still.includes(key)) found.delete(key);
      const doubtful = [...found.keys()].filter((key) => isDoubtful(found.get(key)));
      const fresh = still.filter((key) => !found.has(key));
      const inTurn = new Set([...doubtful, ...fresh, ...found.keys()]);
      for (const key of [...inTurn].slice(0, ASKED_PER_ROUND)) {
        const mover = movers.get(key);
        if (mover === undefined) continue;
        const { campaignId, subject, detail } = mover;
        const standing = await why(campaignId);
        const { code, message } = standing;
        const before = found.get(key);
        found.delete(key);
        if (!stands(standing)) {
          found.set(key, { code, stands: false });
          continue;
        }
        await push(context, campaignId);
        const news: AlertNews = {
          key,
          kind,
          level: 'warning',
          message: `${subject}: ${message}`,
          campaignId,
          detail: { ...detail, code },
        };
        found.set(key, { code, stands: true, news: before?.code === code ? news : undefined });
      }
      const isOpen = (key: string): boolean =>
        found.has(key) ? isDoubtful(found.get(key)) : motion.isStill(key);
      const before = round.raised.filter((alert) => alert.kind === kind && isOpen(alert._id));
      return [...[...found.values()].flatMap(({ news }) => news ?? []), ...before.map(asRaised)];
    },
    forget: () => {
      watch.forget();
      motion.forget();
      found.clear();
    },
  };
}

function isDoubtful(verdict: Verdict | undefined): boolean {
  return verdict?.stands === true && verdict.news === undefined;
}

/** What any worker may do at any time: ring the alarm, and look for work. */
async function push({ store, alarms, serverNow, nudge }: WatchdogContext, campaignId: string): Promise<void> {
  const id = parseId(campaignId);
  const campaign = id === undefined ? null : await readCampaign(store, id);
  if (campaign?.schemaVersion === undefined) return; // another program's: recovery adopts it or says why not
  await alarms.wake(alarmOf(campaign), campaignId, serverNow());
  nudge();
}
