/**
 * What people do with campaigns: create, look, and give orders. Invariant: a method resolves when what it did is durable;
 * every refusal says in which status the campaign is and what would be possible; nothing here waits for a worker.
 */

import { type By, CampaignChanges, type CampaignsOptions, type OfRun, refusal } from './campaign-changes.ts';
import type { CampaignInput } from './campaign-input.ts';
import { type CampaignFilter, listedCampaigns } from './campaign-list.ts';
import type { Campaign } from './campaign-view.ts';
import { viewOf } from './campaign-view.ts';
import { type InstantInput, instantOf, instantProblem } from './core/instant.ts';
import type { Counts } from './core/ledger-page.ts';
import type { Resolution } from './core/orders.ts';
import { checkContent, createCampaign } from './create-campaign.ts';
import {
  type Delivery,
  type DeliveryList,
  findDelivery,
  type ListDeliveriesOptions,
  listDeliveries,
} from './deliveries.ts';
import { type Audit, auditRun, readProgress } from './delivery/books.ts';
import { ValidationError } from './errors.ts';
import { findCampaign } from './existing-campaign.ts';
import { explainCampaign } from './explain.ts';
import { checkFailuresOptions, type FailureReport, type FailuresOptions, groupFailures } from './failures.ts';
import { expectation, integerProblems, refuseProblems } from './input-checks.ts';
import type { Content } from './messengers/messenger.ts';
import { type CampaignUpdate, fromNowOn, manualRun, pastRuns, updateOf } from './recurring.ts';
import { freezingAttempts } from './store/audiences.ts';
import { newId } from './store/campaigns.ts';
import type { CampaignDoc, JournalDoc, RunReport } from './store/documents.ts';
import { refreshRuns, resetFreezing } from './store/runs.ts';

const MAX_LISTED = 1000;
const RECURS = 'it recurs, and its rule says when it runs';

export interface Progress extends Counts {
  readonly total: number;
}

export interface ResolveUnknownOptions extends By, OfRun {
  /** What they are: `sent` or `failed`; `resend` hands them over once more with the same idempotency key. */
  readonly as: Resolution;
  /** Ids of recipients, at most 1,000. Default: all unknown ones. */
  readonly recipients?: readonly string[];
}

export interface RetryFailedOptions extends By, OfRun {
  /** Ids of recipients, at most 1,000. Default: all failed ones. */
  readonly recipients?: readonly string[];
}

export class Campaigns {
  readonly #options: CampaignsOptions;
  readonly #changes: CampaignChanges;

  constructor(options: CampaignsOptions) {
    this.#options = options;
    this.#changes = new CampaignChanges(options);
  }

  /**
   * Creates a campaign. Lists and iterables are read to their end and frozen first; resolves when everything is durable.
   * @throws ValidationError `invalid_campaign` with every problem; CampaignSchedulerError `unknown_messenger`,
   * `invalid_content`, `audience_failed` (the source threw; nothing was created).
   */
  async create(input: CampaignInput): Promise<Campaign> {
    const { journal, logger, events } = this.#options;
    const { campaign, frozen } = await createCampaign(this.#options, input);
    const id = campaign._id.toHexString();
    await journal.write({
      campaignId: id,
      kind: 'created',
      ...(frozen === undefined
        ? {}
        : {
            detail: {
              recipients: frozen.total,
              duplicates: frozen.duplicates,
              rejected: frozen.rejected.count,
              rejections: frozen.rejected.first,
            },
          }),
    });
    logger.info(
      { campaign: campaign.name, id, ...(frozen === undefined ? {} : { recipients: frozen.total }) },
      'campaign created',
    );
    if (campaign.status !== 'scheduled' || campaign.nextRunAt === null) return viewOf(campaign);
    events.emit('campaign:scheduled', { campaign: { id, name: campaign.name }, sendAt: campaign.nextRunAt });
    return this.#rung(campaign);
  }

  async find(id: string): Promise<Campaign | null> {
    const found = await findCampaign(this.#options.store, id);
    return found === null ? null : viewOf(found);
  }

  /**
   * In lines for people: the next intervals of sending, and the projected end by the rates and the recipients left.
   * @throws CampaignSchedulerError `not_found`.
   */
  async explain(id: string): Promise<string[]> {
    return explainCampaign(this.#options, await this.#changes.existing(id));
  }

  /** Campaigns in the order of creation. @throws ValidationError `invalid_options`. */
  async list(filter: CampaignFilter = {}): Promise<Campaign[]> {
    return listedCampaigns(this.#options.store, filter);
  }

  /**
   * Takes a draft into the schedule. Default time: its own, else now. One that recurs takes no time: its rule counts from
   * now on.
   */
  async schedule(id: string, sendAt?: InstantInput, by: By = {}): Promise<Campaign> {
    const at = sendAt === undefined ? undefined : this.#instant(sendAt);
    const changed = await this.#changes.change(
      id,
      'schedule',
      (campaign) => {
        const now = this.#options.serverNow();
        const { recurrence } = campaign.schedule;
        if (recurrence === undefined) return { sendAt: at ?? campaign.schedule.sendAt ?? now };
        if (at !== undefined) throw refusal(campaign, 'schedule', RECURS);
        return { fields: fromNowOn(campaign, recurrence, now) };
      },
      by,
    );
    return this.#scheduled(changed);
  }

  /** Moves a campaign that has not started to another time. One that recurs is refused: `update` changes its rule. */
  async reschedule(id: string, sendAt: InstantInput, by: By = {}): Promise<Campaign> {
    const at = this.#instant(sendAt);
    const changed = await this.#changes.change(
      id,
      'reschedule',
      (campaign) => {
        if (campaign.schedule.recurrence !== undefined) throw refusal(campaign, 'reschedule', RECURS);
        if (campaign.openRuns.length > 0) throw refusal(campaign, 'reschedule', 'it has started');
        return { sendAt: at };
      },
      by,
    );
    return changed.status === 'scheduled' ? this.#scheduled(changed) : viewOf(changed);
  }

  /**
   * Runs it now: a recurring campaign gets a run beside its rule, after those that are open; one that runs once is started
   * now instead of at its time.
   */
  async runNow(id: string, by: By = {}): Promise<Campaign> {
    const { schedule, status } = await this.#changes.existing(id);
    if (schedule.recurrence === undefined)
      return status === 'draft'
        ? this.schedule(id, undefined, by)
        : this.reschedule(id, this.#options.serverNow(), by);
    const run = newId().toHexString();
    const open = (campaign: CampaignDoc) => ({ open: [manualRun(campaign, run)] });
    return this.#rung(await this.#changes.change(id, 'run-now', open, by));
  }

  /**
   * Runs past occurrences of the rule that have no run yet, at most 100, in order, one after another: from `from` to
   * before `to`, which may not be in the future.
   * @throws ValidationError `invalid_options` when the range is wrong or holds more.
   */
  async backfill(id: string, from: InstantInput, to: InstantInput, by: By = {}): Promise<Campaign> {
    const { store, serverNow } = this.#options;
    const open = async (campaign: CampaignDoc) => {
      const refs = pastRuns(campaign, from, to, serverNow());
      const runs = await refreshRuns(
        store,
        refs.map(({ runId }) => runId),
      );
      const exist = new Set(runs.map((run) => run._id));
      const missing = refs.filter(({ runId }) => !exist.has(runId));
      if (missing.length === 0)
        throw refusal(campaign, 'backfill', 'none of these occurrences is without a run');
      return { open: missing };
    };
    return this.#rung(await this.#changes.change(id, 'backfill', open, by));
  }

  /**
   * Changes what later runs are made of; runs that are open keep their own copy. A new rule counts from now on, and never
   * fires the past.
   * @throws ValidationError `invalid_campaign` with every problem; CampaignSchedulerError `invalid_content`, `refused`.
   */
  async update(id: string, update: CampaignUpdate, by: By = {}): Promise<Campaign> {
    const { options, serverNow } = this.#options;
    const change = async (campaign: CampaignDoc) => {
      const context = { now: serverNow(), messengers: options.messengers };
      const fields = updateOf(campaign, update, context);
      if (update.content !== undefined)
        await checkContent(options, campaign.messenger, fields.content as Content);
      return { fields };
    };
    const changed = await this.#changes.change(id, 'update', change, by);
    return changed.status === 'draft' ? viewOf(changed) : this.#rung(changed);
  }

  /** No new send starts; those in flight end and are recorded. Durable when it resolves; other workers see it within a second. */
  async pause(id: string, by: By = {}): Promise<Campaign> {
    const changed = await this.#changes.change(
      id,
      'pause',
      () => ({ statusReason: this.#changes.reason('paused', by) }),
      by,
    );
    const { statusReason } = changed;
    this.#options.events.emit('campaign:paused', {
      campaign: ref(changed),
      ...(statusReason === undefined ? {} : { reason: statusReason }),
    });
    return viewOf(changed);
  }

  /** Goes on where it was. A campaign whose audience could not be frozen tries again. */
  async resume(id: string, by: By = {}): Promise<Campaign> {
    const { store, events } = this.#options;
    const resume = async (campaign: CampaignDoc) => {
      // Before the status, or a worker that sees it first would count the old attempts and fail the campaign again.
      const run = await this.#changes.run(campaign, undefined);
      if (run?.status !== 'freezing') return {};
      const attempts = (await freezingAttempts(store, [run._id])).get(run._id);
      if (attempts !== undefined) await resetFreezing(store, run._id, attempts.number);
      return {};
    };
    const changed = await this.#changes.change(id, 'resume', resume, by);
    events.emit('campaign:resumed', { campaign: ref(changed), status: changed.status });
    return this.#rung(changed);
  }

  /** Ends a campaign: whoever has not been handed over is skipped. What is in flight ends and is recorded. */
  async cancel(id: string, by: By = {}): Promise<Campaign> {
    const changed = await this.#changes.order(id, 'cancel', { kind: 'cancel' }, 'all', by);
    const { statusReason } = changed;
    this.#options.events.emit('campaign:cancelled', {
      campaign: ref(changed),
      ...(statusReason === undefined ? {} : { reason: statusReason }),
    });
    return viewOf(changed);
  }

  /** Another round, with new idempotency keys and new attempts, for those that failed before this order. */
  async retryFailed(id: string, options: RetryFailedOptions = {}): Promise<Campaign> {
    const targets = await this.#changes.targets(id, options.recipients, options);
    return viewOf(await this.#changes.order(id, 'retry-failed', { kind: 'retry-failed' }, targets, options));
  }

  /** A person's word about recipients of whom nobody knew whether the message left. */
  async resolveUnknown(id: string, options: ResolveUnknownOptions): Promise<Campaign> {
    const { as } = options;
    if (as !== 'sent' && as !== 'failed' && as !== 'resend') {
      throw new ValidationError('invalid_options', 'Unknown recipients cannot be resolved', [
        { path: 'as', message: expectation('as', 'one of sent, failed, resend', as) },
      ]);
    }
    const targets = await this.#changes.targets(id, options.recipients, options);
    const action = as === 'resend' ? 'resend-unknown' : 'resolve-unknown';
    return viewOf(
      await this.#changes.order(id, action, { kind: 'resolve-unknown', resolution: as }, targets, options),
    );
  }

  /** Lets pages go on that were put aside because their holders died three times in a row. */
  async releaseParked(id: string, by: By & OfRun = {}): Promise<Campaign> {
    return viewOf(await this.#changes.order(id, 'release-parked', { kind: 'release-parked' }, 'all', by));
  }

  /** How far the run is; null before it has begun. At most 2 s old while it runs. */
  async progress(id: string, occurrence?: string): Promise<Progress | null> {
    const run = await this.#changes.run(await this.#changes.existing(id), occurrence);
    return run === null ? null : readProgress(this.#options.store, run, this.#options.serverNow());
  }

  /** The closed books of a run; null while it is open. */
  async report(id: string, occurrence?: string): Promise<RunReport | null> {
    const run = await this.#changes.run(await this.#changes.existing(id), occurrence);
    return run === null || run.status === 'sending' ? null : (run.report ?? null);
  }

  /** Recounts every single outcome of a run and compares: pages with their counts, counts with the audience. */
  async audit(id: string, occurrence?: string): Promise<Audit | null> {
    const run = await this.#changes.run(await this.#changes.existing(id), occurrence);
    return run === null ? null : auditRun(this.#options.store, run);
  }

  /** What became of one recipient; null when it is not in the audience (or there is no audience yet). */
  async findDelivery(id: string, recipientId: string, occurrence?: string): Promise<Delivery | null> {
    const run = await this.#changes.run(await this.#changes.existing(id), occurrence);
    return run === null ? null : findDelivery(this.#options.store, run, recipientId);
  }

  /** Recipients and what became of them, in the order of the audience. */
  async listDeliveries(id: string, options: ListDeliveriesOptions = {}): Promise<DeliveryList> {
    const run = await this.#changes.run(await this.#changes.existing(id), options.occurrence);
    return run === null ? { deliveries: [] } : listDeliveries(this.#options.store, run, options);
  }

  /**
   * Why recipients failed or are unknown: grouped by what their reasons have in common, the largest group first, with
   * some recipients of each. @throws ValidationError `invalid_options`; CampaignSchedulerError `not_found`.
   */
  async failures(id: string, options: FailuresOptions = {}): Promise<FailureReport> {
    const most = checkFailuresOptions(options);
    const run = await this.#changes.run(await this.#changes.existing(id), options.occurrence);
    return groupFailures(this.#options.store, run, most);
  }

  /** What happened to the campaign, oldest first. `limit` 1 to 1000, default 1000. */
  async journal(
    id: string,
    limit = MAX_LISTED,
  ): Promise<Pick<JournalDoc, 'at' | 'kind' | 'runId' | 'detail' | 'workerId'>[]> {
    const problems = integerProblems('limit', limit, 1, MAX_LISTED);
    refuseProblems('The journal cannot be read', problems);
    return this.#options.journal.read((await this.#changes.existing(id))._id, limit);
  }

  // -------------------------------------------------------------------------------------------------------------------

  /** What was changed is durable: the alarm is set, and the campaign shown. */
  async #rung(campaign: CampaignDoc): Promise<Campaign> {
    return viewOf(await this.#changes.ring(campaign));
  }

  async #scheduled(campaign: CampaignDoc): Promise<Campaign> {
    if (campaign.nextRunAt !== null) {
      this.#options.events.emit('campaign:scheduled', {
        campaign: ref(campaign),
        sendAt: campaign.nextRunAt,
      });
    }
    return this.#rung(campaign);
  }

  #instant(input: InstantInput): Date {
    const problem = instantProblem(input, 'sendAt');
    if (problem !== undefined)
      throw new ValidationError('invalid_campaign', 'The campaign cannot be scheduled', [
        { path: 'sendAt', message: problem },
      ]);
    return new Date(instantOf(input));
  }
}

const ref = (campaign: CampaignDoc) => ({ id: campaign._id.toHexString(), name: campaign.name });
