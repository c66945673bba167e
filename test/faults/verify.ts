/**
 * What must hold after a round, judged by the messenger's own log against the ledger: nobody lost, nobody twice, no more
 * unknown than a crash may leave, and books that balance. Returns complaints in words; none is good.
 */
import { type Db, ObjectId } from 'mongodb';
import type { CampaignScheduler, Delivery, OnUnknown } from '../../src/index.ts';
import type { WorkerDoc } from '../../src/store/documents.ts';
import { accepted, type HandOver } from './send-log.ts';

export interface RoundFacts {
  readonly id: string;
  /** The run this is about. */
  readonly occurrence: string;
  readonly onUnknown: OnUnknown;
  readonly concurrency: number;
  readonly total: number;
  readonly status: 'completed' | 'cancelled';
  /** Workers that were killed. */
  readonly deaths: number;
  /** A person asked for unknown ones to be sent again: a key may then stand in the log twice. */
  readonly resent?: boolean;
  /** Everybody must have been taken in the end. */
  readonly everybody?: boolean;
}

export interface Verdict {
  readonly complaints: string[];
  readonly unknown: number;
}

export async function verify(
  api: CampaignScheduler,
  db: Db,
  logFile: string,
  round: RoundFacts,
): Promise<Verdict> {
  const complaints: string[] = [];
  const complain = (text: string): void => {
    if (complaints.length < 20)
      complaints.push(`${round.id} ${round.occurrence} (${round.onUnknown}): ${text}`);
  };
  const campaign = await api.campaigns.find(round.id);
  if (campaign?.status !== round.status) complain(`it is ${campaign?.status}, not ${round.status}`);
  await checkBooks(api, round, complain);
  const runId = `${round.id}:${round.occurrence}`;
  await checkPages(db, runId, complain);

  const handOvers = byRecipient(accepted(logFile, round.id).filter((entry) => entry.runId === runId));
  const deliveries = await allDeliveries(api, round);
  // Cancelled before its run had taken its audience: there is nothing to be listed, and nobody may have been sent to.
  const neverBegan =
    round.status === 'cancelled' && (await api.campaigns.report(round.id, round.occurrence)) === null;
  if (deliveries.length !== (neverBegan ? 0 : round.total))
    complain(`${deliveries.length} deliveries of ${round.total}`);
  if (neverBegan && handOvers.size > 0) complain(`${handOvers.size} were taken although it never began`);
  for (const delivery of deliveries) {
    for (const text of complaintsAbout(delivery, handOvers.get(delivery.recipient.id) ?? [], round)) {
      complain(`${delivery.recipient.id} ${text}: ${JSON.stringify(delivery)}`);
    }
  }

  // Whoever takes a page over may die before the journal has it.
  const lostWorkers = Math.max(round.deaths, await countLostWorkers(db, round.id));
  const lost = deliveries.filter(({ reason }) => reason?.startsWith('the worker was lost') === true).length;
  if (lost > 2 * round.concurrency * lostWorkers)
    complain(`${lost} in doubt after ${lostWorkers} lost workers at concurrency ${round.concurrency}`);
  const unknown = deliveries.filter(({ state }) => state === 'unknown').length;
  return { complaints, unknown };
}

/**
 * Server time as two processes know it, who measure it by a round trip that may be slow. A run that was opened too early
 * would be so by a second.
 */
export const CLOCKS_APART_MS = 500;

type Complain = (text: string) => void;

/** The runs of a campaign that recurs every second: one for each nominal second, none left out, none early. */
export async function verifyOccurrences(
  db: Db,
  id: string,
  count: number,
): Promise<{ complaints: string[]; occurrences: string[] }> {
  const campaignId = new ObjectId(id);
  const runs = await db.collection('campaign_runs').find({ campaignId }).sort({ nominalAt: 1 }).toArray();
  const complaints: string[] = [];
  if (runs.length !== count) complaints.push(`${id} has ${runs.length} runs instead of ${count}`);
  const seconds = runs.map(({ nominalAt }) => nominalAt.getTime() / 1_000);
  if (seconds.some((second, index) => second !== (seconds[0] ?? 0) + index))
    complaints.push(`${id} has runs of the seconds ${seconds.join(', ')}`);
  for (const { occurrence, nominalAt, openedAt, status } of runs) {
    if (status !== 'finished') complaints.push(`${id} ${occurrence} is ${status}`);
    if (openedAt.getTime() - nominalAt.getTime() < -CLOCKS_APART_MS)
      complaints.push(`${id} ${occurrence} was opened before its time, at ${openedAt.toISOString()}`);
  }
  const leftOut = await db.collection('journal').countDocuments({ campaignId, kind: 'occurrence-skipped' });
  if (leftOut > 0) complaints.push(`${id} has left occurrences out`);
  return { complaints, occurrences: runs.map(({ occurrence }) => occurrence) };
}

async function checkBooks(api: CampaignScheduler, round: RoundFacts, complain: Complain): Promise<void> {
  const { id, occurrence } = round;
  const [audit, report] = await Promise.all([
    api.campaigns.audit(id, occurrence),
    api.campaigns.report(id, occurrence),
  ]);
  if (audit === null || report === null) {
    if (round.status === 'completed') complain('it has no books');
    return;
  }
  for (const problem of audit.problems) complain(problem);
  const { sent, failed, skipped, unknown, total } = report;
  if (total !== round.total) complain(`the report speaks of ${total} recipients instead of ${round.total}`);
  if (sent + failed + skipped + unknown !== total)
    complain(`the report does not add up: ${JSON.stringify(report)}`);
}

/** Nothing is left over: no claim, no page in between, no truth that nobody took in, no entry of a run. */
async function checkPages(db: Db, runId: string, complain: Complain): Promise<void> {
  const open = await db
    .collection('ledger_pages')
    .find({
      runId,
      $or: [{ status: { $ne: 'done' } }, { claim: { $exists: true } }, { 'late.0': { $exists: true } }],
    })
    .toArray();
  for (const page of open) complain(`page ${page.n} is left over: ${JSON.stringify(page)}`);
  const named = await db.collection('campaigns').countDocuments({ 'openRuns.runId': runId });
  if (named > 0) complain('its run is still open');
}

async function allDeliveries(api: CampaignScheduler, round: RoundFacts): Promise<Delivery[]> {
  const { id, occurrence } = round;
  const all: Delivery[] = [];
  let cursor: string | undefined;
  do {
    const answer = await api.campaigns.listDeliveries(id, { occurrence, limit: 1_000, cursor });
    all.push(...answer.deliveries);
    cursor = answer.cursor;
  } while (cursor !== undefined);
  return all;
}

function byRecipient(handOvers: readonly HandOver[]): Map<string, HandOver[]> {
  const found = new Map<string, HandOver[]>();
  for (const handOver of handOvers) {
    const id = handOver.recipientId ?? '';
    found.set(id, [...(found.get(id) ?? []), handOver]);
  }
  return found;
}

function complaintsAbout(delivery: Delivery, handOvers: readonly HandOver[], round: RoundFacts): string[] {
  const { state, code, attempts } = delivery;
  const texts: string[] = [];
  const keys = new Set(handOvers.map(({ key }) => key));
  const mayRepeat = round.onUnknown === 'resend' || round.onUnknown === 'reconcile' || round.resent === true;
  if (handOvers.length > 1 && !mayRepeat) texts.push(`was taken ${handOvers.length} times`);
  if (keys.size > 1) texts.push(`was taken under ${keys.size} keys`);
  if (handOvers.length > 0 && state === 'failed' && code !== 'gave_up')
    texts.push('was taken and has failed');
  if (handOvers.length > 0 && state === 'skipped') texts.push('was taken and counts as skipped');
  if (handOvers.length === 0 && state === 'sent') texts.push('counts as sent and was never taken');
  if (state === 'pending' || state === 'sending' || state === 'retrying') texts.push('is not settled');
  if (handOvers.some(({ attempt }) => Number(attempt) > attempts))
    texts.push('was taken by an attempt not counted');
  if (state === 'unknown' && round.onUnknown !== 'hold' && round.status === 'completed')
    texts.push('stayed unknown');
  if (round.everybody === true && handOvers.length === 0) texts.push('was never taken');
  return texts;
}

/**
 * How often a holder was lost. One that was only slow counts too, each time anew: its page was taken all the same, and it
 * went on with others.
 */
async function countLostWorkers(db: Db, id: string): Promise<number> {
  const campaignId = new ObjectId(id);
  const taken = await db.collection('journal').find({ campaignId, kind: 'page-taken-over' }).toArray();
  const workers = await db.collection<WorkerDoc>('workers').find().toArray();
  const heardOf = new Map(workers.map(({ _id, heartbeatAt }) => [_id, heartbeatAt]));
  const losses = taken.map(({ _id, at, detail: { fromWorkerId } }) => {
    const heardAt = heardOf.get(fromWorkerId);
    return heardAt !== undefined && heardAt > at ? String(_id) : fromWorkerId;
  });
  return new Set(losses).size;
}
