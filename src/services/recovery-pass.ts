/**
 * One pass of recovery: looks at campaigns batch by batch, lets `core/recovery.ts` decide, sets their alarms, adopts what
 * other programs wrote, and counts what it did. Invariant: it writes only what any worker may write at any time, so a pass
 * that dies half-way, or two passes at once, do no harm.
 */
import type { ObjectId } from 'mongodb';
import { decideRecovery, type Holders, isHealthy, type RecoveryDecision } from '../core/recovery.ts';
import type { EventBus } from '../events.ts';
import type { Logger } from '../logger.ts';
import { type AlarmEntry, type AlarmState, alarmOf } from '../queue/alarm.ts';
import type { Alarms } from '../queue/alarms.ts';
import {
  type CampaignHead,
  hasObjectId,
  headBatches,
  headsAfter,
  readHeadsById,
  setAgendaJobIds,
} from '../store/campaign-heads.ts';
import { isForeign, isNewer } from '../store/campaigns.ts';
import type { Journal, JournalEntry } from '../store/journal.ts';
import type { Store } from '../store/store.ts';

export interface RecoveredCampaign {
  readonly id: string;
  readonly name: string;
  /**
   * What was done: `resume`, `start` (it was overdue), `reschedule` (its alarm is set again) or `next-occurrence` (the
   * alarm of a recurring one is set, for what its rule says about what was missed).
   */
  readonly status: Exclude<RecoveryDecision['action'], 'skip'>;
}
export interface SkippedCampaign {
  readonly id: string;
  readonly name: string;
  readonly reason: string;
}
/** What a pass did. The lists hold the first 1,000 each, the counts are complete. */
export interface RecoveryReport {
  readonly recoveredCount: number;
  readonly skippedCount: number;
  readonly recovered: readonly RecoveredCampaign[];
  readonly skipped: readonly SkippedCampaign[];
}

export interface RecoveryPassOptions {
  readonly store: Store;
  readonly alarms: Alarms;
  readonly serverNow: () => Date;
  readonly logger: Logger;
  readonly journal: Journal;
  readonly events: EventBus;
  /** Makes a document of another program ours. Returns the reason when that is not possible. */
  readonly adopt: (head: CampaignHead) => Promise<string | undefined>;
  /** Runs may need attention. */
  readonly nudge: () => void;
}

const BATCH = 1000;
const LISTED = 1000;
const REVIVED_AT_ONCE = 50;
/** Campaigns that get a line of their own in the log. */
const LOUD = 20;

/** One look at all campaigns, or at some of them, and what it did. */
export class RecoveryPass {
  readonly #options: RecoveryPassOptions;
  readonly #holders: Holders;
  readonly #full: boolean;
  readonly #renew: () => Promise<unknown>;
  readonly #recovered: RecoveredCampaign[] = [];
  readonly #skipped: SkippedCampaign[] = [];
  #recoveredCount = 0;
  #skippedCount = 0;
  #lateCount = 0;

  constructor(
    options: RecoveryPassOptions,
    holders: Holders,
    full: boolean,
    renew: () => Promise<unknown> = async () => undefined,
  ) {
    this.#options = options;
    this.#holders = holders;
    this.#full = full;
    this.#renew = renew;
  }

  get report(): RecoveryReport {
    return {
      recoveredCount: this.#recoveredCount,
      skippedCount: this.#skippedCount,
      recovered: this.#recovered,
      skipped: this.#skipped,
    };
  }

  async all(status: 'scheduled' | 'processing', dueBefore?: Date | null): Promise<void> {
    for await (const heads of headBatches(this.#options.store, status, dueBefore, BATCH)) {
      await this.#treat(await this.#own(heads, status));
      await this.#renew();
    }
  }

  /** The next batch of a look that rolls over all. Returns where the one after begins; undefined: at the start. */
  async some(status: 'scheduled', after: ObjectId | undefined): Promise<ObjectId | undefined> {
    const heads = await headsAfter(this.#options.store, status, after, BATCH);
    await this.#treat(await this.#own(heads, status));
    return heads.length < BATCH ? undefined : heads.at(-1)?._id;
  }

  /**
   * Adopts what other programs wrote; leaves alone what a newer version wrote. What was adopted in another status than it
   * had comes up again in the look at that one.
   */
  async #own(heads: readonly CampaignHead[], status: CampaignHead['status']): Promise<CampaignHead[]> {
    const own: CampaignHead[] = [];
    const adopted: ObjectId[] = [];
    for (const head of heads) {
      if (!hasObjectId(head)) this.#skip(head, 'its `_id` is not an ObjectId');
      else if (isNewer(head)) this.#skip(head, 'a newer version of this package wrote it');
      else if (!isForeign(head)) own.push(head);
      else {
        const problem = await this.#options.adopt(head);
        if (problem === undefined) adopted.push(head._id);
        else this.#skip(head, problem);
      }
    }
    if (adopted.length === 0) return own;
    const read = await readHeadsById(this.#options.store, adopted);
    return [...own, ...read.filter((head) => head.status === status)];
  }

  async #treat(heads: readonly CampaignHead[]): Promise<void> {
    if (heads.length === 0) return;
    const { alarms, serverNow } = this.#options;
    const found = await alarms.find(heads.map((head) => head._id.toHexString()));
    const byCampaign = new Map(found.map((alarm) => [alarm.campaignId, alarm]));
    const now = serverNow();
    const missing: AlarmEntry[] = [];
    const objectIds = new Map(heads.map((head) => [head._id.toHexString(), head._id]));
    const jobIds = new Map<string, string>();
    const dead: { alarm: AlarmState; at: Date }[] = [];
    const done: { head: CampaignHead; decision: Exclude<RecoveryDecision, { action: 'skip' }> }[] = [];
    for (const head of heads) {
      const id = head._id.toHexString();
      const alarm = byCampaign.get(id);
      const healthy = isHealthy(alarm, this.#holders);
      const decision = decideRecovery(
        {
          status: head.status,
          nextRunAt: head.nextRunAt ?? null,
          openRunIds: (head.openRuns ?? []).map((run) => run.runId),
          isRecurring: head.schedule?.recurrence !== undefined,
        },
        alarm,
        this.#holders,
        now,
      );
      if (alarm !== undefined && head.agendaJobId !== alarm.id) jobIds.set(id, alarm.id);
      if (decision.action === 'skip') {
        this.#skip(head, decision.reason);
        continue;
      }
      if (decision.action === 'resume' && healthy && !this.#full) {
        this.#skip(head, 'nobody holds a page of it right now, and its alarm will ring'); // waiting for a retry, say
        continue;
      }
      const at = 'at' in decision ? decision.at : now;
      if (alarm === undefined) missing.push({ name: alarmOf(head), campaignId: id, at });
      else if (decision.action !== 'resume' || !healthy) dead.push({ alarm, at });
      done.push({ head, decision });
    }
    for (let first = 0; first < dead.length; first += REVIVED_AT_ONCE) {
      const some = dead.slice(first, first + REVIVED_AT_ONCE);
      await Promise.all(some.map(({ alarm, at }) => this.#revive(alarm, at)));
    }
    if (missing.length > 0) {
      const made = this.#full ? await alarms.insertMissing(missing) : await alarms.upsertMissing(missing);
      for (const [campaignId, jobId] of made) jobIds.set(campaignId, jobId);
    }
    await setAgendaJobIds(
      this.#options.store,
      [...jobIds].flatMap(([campaignId, agendaJobId]) => {
        const id = objectIds.get(campaignId);
        return id === undefined ? [] : [{ id, agendaJobId }];
      }),
    );
    await this.#options.journal.write(
      ...done.map(({ head, decision }): JournalEntry => {
        return { campaignId: head._id, kind: 'recovered', detail: { action: decision.action } };
      }),
    );
    for (const { head, decision } of done) this.#recover(head, decision);
    if (done.some(({ decision }) => decision.action === 'resume')) this.#options.nudge();
  }

  async #revive(alarm: AlarmState, at: Date): Promise<void> {
    const { alarms } = this.#options;
    const dead = alarm.lockedAt !== null && !this.#holders.workers.has(alarm.lastModifiedBy ?? '');
    if (dead && alarm.lockToken !== null) await alarms.release(alarm.id, alarm.lockToken);
    await alarms.wake(alarm.name, alarm.campaignId, at);
  }

  #recover(head: CampaignHead, decision: Exclude<RecoveryDecision, { action: 'skip' }>): void {
    const { logger, events } = this.#options;
    const campaign = { id: head._id.toHexString(), name: head.name ?? '' };
    this.#recoveredCount += 1;
    if (this.#recovered.length < LISTED) this.#recovered.push({ ...campaign, status: decision.action });
    const facts = { campaign: campaign.name, id: campaign.id };
    const loud = this.#recoveredCount <= LOUD;
    if (loud && decision.action === 'resume') logger.info(facts, 'resuming campaign');
    if (loud && decision.action === 'start')
      logger.info({ ...facts, lateMs: decision.lateMs }, 'starting overdue campaign');
    if (loud && decision.action === 'reschedule')
      logger.info({ ...facts, at: decision.at }, 'campaign rescheduled');
    if (loud && decision.action === 'next-occurrence')
      logger.info({ ...facts, at: decision.at }, 'recurring campaign: its alarm is set');
    if (decision.action === 'start') this.#lateCount += 1;
    events.emit('campaign:recovered', { campaign, status: head.status, action: decision.action });
  }

  #skip(head: CampaignHead, reason: string): void {
    this.#skippedCount += 1;
    if (this.#skipped.length < LISTED)
      this.#skipped.push({ id: String(head._id), name: head.name ?? '', reason });
  }

  /** The line that people look for after a restart. */
  tell(): void {
    const { logger } = this.#options;
    const found = this.#recoveredCount + this.#skippedCount;
    if (!this.#full) return;
    if (found === 0) logger.info({}, 'recovery: no pending campaigns');
    else {
      logger.info(
        { recovered: this.#recoveredCount, late: this.#lateCount, skipped: this.#skippedCount },
        `recovery: ${found} pending campaign${found === 1 ? '' : 's'} found`,
      );
    }
  }
}
