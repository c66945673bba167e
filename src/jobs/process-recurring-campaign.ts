/**
 * What happens when the alarm of a recurring campaign rings: whatever the rule says is due is opened or left out, one
 * guarded write for each, and the alarm rings again for the next occurrence. Short and repeatable: the campaign's own
 * document says what was done, so ringing early, twice, late or on two workers at once changes nothing.
 */
import { decideOccurrences, type SkippedOccurrences } from '../core/misfire.ts';
import { occurrenceKey } from '../core/recurrence.ts';
import { holdsUpOthers } from '../core/run-step.ts';
import { insertOpenRun, type OpenRunOptions } from '../delivery/open-run.ts';
import { clearAgendaJobId } from '../store/campaign-heads.ts';
import { completeRecurring, type OccurrenceStep, stepOccurrence } from '../store/campaign-transitions.ts';
import { isForeign, isNewer, parseId, readCampaign } from '../store/campaigns.ts';
import { type CampaignDoc, type OpenRunRef, runIdOf } from '../store/documents.ts';
import { latestRuns, runStates } from '../store/runs.ts';
import { SAFETY_NET_MS } from './process-bulk-campaign.ts';

/** After so many steps it rings again at once: a handler is short. */
const STEPS = 20;

export interface ProcessRecurringCampaignOptions extends OpenRunOptions {
  /** A run was opened, or may need attention. */
  readonly nudge: () => void;
}

/** Returns when to ring again; null: nothing is left, the alarm goes. */
export async function processRecurringCampaign(
  options: ProcessRecurringCampaignOptions,
  campaignId: string,
): Promise<Date | null> {
  const { store, serverNow, nudge } = options;
  const id = parseId(campaignId);
  if (id === undefined) return null;
  let after: CampaignDoc | null = null; // what the last step has made of it
  for (let steps = 0; steps < STEPS; steps += 1) {
    const campaign: CampaignDoc | null = after ?? (await readCampaign(store, id));
    after = null;
    if (campaign === null) return null;
    const safetyNet = new Date(serverNow().getTime() + SAFETY_NET_MS);
    if (isForeign(campaign) || isNewer(campaign)) return safetyNet;
    await tellLeftOut(options, campaign);
    if (campaign.openRuns.length > 0) nudge();
    const { recurrence } = campaign.schedule;
    if (recurrence === undefined || !['scheduled', 'processing'].includes(campaign.status)) {
      if (campaign.openRuns.length > 0) return safetyNet;
      await clearAgendaJobId(store, campaign);
      return null;
    }
    // Without an occurrence that is due nothing depends on it.
    const now = serverNow();
    const isDue = campaign.nextRunAt !== null && campaign.nextRunAt <= now;
    const busyRuns = isDue ? await runsInTheWay(options, campaign) : campaign.openRuns.length;
    const plan = decideOccurrences({
      rule: recurrence,
      lastNominal: campaign.lastOccurrence ?? null,
      nextNominal: campaign.nextOccurrence ?? null,
      now,
      openRuns: busyRuns,
      queuedRuns: Math.max(0, busyRuns - 1),
      runsSoFar: campaign.runsOpened ?? 0,
      jitterKey: campaignId,
    });
    // Whoever looks at open runs needs no alarm; whoever closes the run that is waited for wakes it.
    if (plan.action === 'wait') return plan.until === 'due' ? plan.next.ringAt : safetyNet;
    if (plan.action === 'ended') {
      if (campaign.openRuns.length > 0) return safetyNet;
      await end(options, campaign);
      continue; // what it has become is read again
    }
    const step: OccurrenceStep = {
      ...(plan.action === 'open' ? { run: refOf(campaign, plan.open) } : {}),
      lastOccurrence: plan.lastNominal,
      nextOccurrence: plan.next?.nominal ?? null,
      nextRunAt: plan.next?.ringAt ?? null,
      leftOut: plan.skipped,
      now: serverNow(),
    };
    after = await stepOccurrence(store, campaign, step);
    if (after === null) continue; // another worker took the step, or a person changed the campaign
    if (step.run === undefined) continue;
    await insertOpenRun(options, after, step.run); // whoever dies before leaves it to any worker that sees it
    nudge();
  }
  return serverNow();
}

/** Clocks of two workers, and what passes between a read and a write, differ by less. */
const RINGS_SOON_MS = 5_000;

/**
 * A run of it was closed: does its alarm still ring in time by itself? Its handler set it to the next occurrence when it
 * opened the run, and nothing else is left to do before. `campaign` is as it was when the run was taken out.
 */
export function ringsByItself(
  campaign: Pick<CampaignDoc, 'status' | 'schedule' | 'nextRunAt' | 'pauseOnFailure'>,
  now: Date,
): boolean {
  const { status, schedule, nextRunAt, pauseOnFailure } = campaign;
  if (schedule.recurrence === undefined || status !== 'processing' || pauseOnFailure === true) return false;
  return nextRunAt !== null && nextRunAt.getTime() - now.getTime() > RINGS_SOON_MS;
}

/** How many open runs still send or will. An order given meanwhile is a change, which the guard of the step notices. */
async function runsInTheWay(
  { store }: ProcessRecurringCampaignOptions,
  { openRuns, order }: CampaignDoc,
): Promise<number> {
  const ids = openRuns.map(({ runId }) => runId);
  const runs = await runStates(store, ids);
  return ids.filter((runId) => holdsUpOthers(runId, runs.get(runId), order)).length;
}

function refOf(campaign: CampaignDoc, open: { nominal: Date; lateMs: number; missed: number }): OpenRunRef {
  const occurrence = occurrenceKey(open.nominal);
  return {
    runId: runIdOf(campaign._id, occurrence),
    occurrence,
    nominalAt: open.nominal,
    lateMs: Math.max(0, Math.round(open.lateMs)),
    ...(open.missed > 0 ? { missed: open.missed } : {}),
  };
}

/** What was left out stands in the campaign until the journal has it, so that no crash makes it vanish. */
async function tellLeftOut(
  { journal, events, logger }: ProcessRecurringCampaignOptions,
  campaign: CampaignDoc,
): Promise<void> {
  for (const skipped of campaign.leftOut ?? []) {
    const isNews = await journal.writeOnce(`${campaign._id.toHexString()}:left-out:${keyOf(skipped)}`, {
      campaignId: campaign._id,
      kind: 'occurrence-skipped',
      detail: { ...skipped },
    });
    if (!isNews) continue;
    const { reason, first, count } = skipped;
    logger.warn({ campaign: campaign.name, reason, first, count }, 'occurrences were left out');
    const about = { id: campaign._id.toHexString(), name: campaign.name };
    events.emit('occurrence:skipped', { campaign: about, ...skipped });
  }
}

const keyOf = ({ reason, first }: SkippedOccurrences): string => `${reason}:${occurrenceKey(first)}`;

/** The rule has ended, and so has its last run. */
async function end(options: ProcessRecurringCampaignOptions, campaign: CampaignDoc): Promise<void> {
  const { store, serverNow, journal, logger, events } = options;
  const [latest] = await latestRuns(store, campaign._id, undefined, 1);
  if (!(await completeRecurring(store, campaign, serverNow()))) return;
  await journal.write({ campaignId: campaign._id, kind: 'completed' });
  logger.info({ campaign: campaign.name }, 'campaign completed: its rule has ended');
  if (latest?.report === undefined) return;
  events.emit('campaign:completed', {
    campaign: { id: campaign._id.toHexString(), name: campaign.name },
    run: { id: latest._id, occurrence: latest.occurrence },
    report: latest.report,
  });
}
