/**
 * What people do with campaigns: create, look, and give orders. Invariant: a method resolves when what it did is durable;
 * every refusal says in which status the campaign is and what would be possible; nothing here waits for a worker.
 */

import type { CampaignInput } from './campaign-input.ts';
import type { Campaign } from './campaign-view.ts';
import { viewOf } from './campaign-view.ts';
import {
  CAMPAIGN_STATUSES,
  type CampaignAction,
  type CampaignStatus,
  nextStatus,
  statusesFor,
} from './core/campaign-machine.ts';
import type { Counts } from './core/ledger-page.ts';
import type { Order, OrderKind, OrderTargets, Resolution } from './core/orders.ts';
import { orderSends } from './core/orders.ts';
import { type CreationOptions, createCampaign } from './create-campaign.ts';
import {
  type Delivery,
  type DeliveryList,
  findDelivery,
  type ListDeliveriesOptions,
  listDeliveries,
} from './deliveries.ts';
import { type Audit, auditRun, readProgress } from './delivery/books.ts';
import { ONCE } from './delivery/open-run.ts';
import { CampaignSchedulerError, type Problem, ValidationError } from './errors.ts';
import type { EventBus } from './events.ts';
import { expectation } from './input-checks.ts';
import type { Logger } from './logger.ts';
import { alarmOf } from './queue/alarm.ts';
import type { Alarms } from './queue/alarms.ts';
import { type InstantInput, instantOf, instantProblem } from './send-time.ts';
import { freezingAttempts, locateRecipients } from './store/audiences.ts';
import {
  type CampaignChange,
  changeCampaign,
  isNewer,
  listCampaigns,
  parseId,
  readCampaign,
  setAgendaJobIds,
} from './store/campaigns.ts';
import type { CampaignDoc, JournalDoc, RunDoc, RunReport } from './store/documents.ts';
import type { Journal } from './store/journal.ts';
import { copyOrder, findRun, resetFreezing } from './store/runs.ts';

const TRIES = 10;
const MAX_NAMED = 1000;
const MAX_LISTED = 1000;
/** A run keeps its orders for ever, and one can name 1,000 recipients. */
const MAX_ORDERS = 500;

export interface CampaignsOptions extends CreationOptions {
  readonly alarms: Alarms;
  readonly journal: Journal;
  readonly events: EventBus;
  readonly logger: Logger;
  readonly nudge: () => void;
}

/** Who gives an order, for the status reason and the journal. */
export interface By {
  readonly by?: string;
  readonly reason?: string;
}

export interface Progress extends Counts {
  readonly total: number;
}

export interface ResolveUnknownOptions extends By {
  /** What they are: `sent` or `failed`; `resend` hands them over once more with the same idempotency key. */
  readonly as: Resolution;
  /** Ids of recipients, at most 1,000. Default: all unknown ones. */
  readonly recipients?: readonly string[];
}

export interface RetryFailedOptions extends By {
  /** Ids of recipients, at most 1,000. Default: all failed ones. */
  readonly recipients?: readonly string[];
}

export class Campaigns {
  readonly #options: CampaignsOptions;

  constructor(options: CampaignsOptions) {
    this.#options = options;
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
    return viewOf(await this.#ring(campaign));
  }

  async find(id: string): Promise<Campaign | null> {
    const objectId = parseId(id);
    const found = objectId === undefined ? null : await readCampaign(this.#options.store, objectId);
    return found === null || found.schemaVersion === undefined ? null : viewOf(found);
  }

  /** Campaigns in the order of creation. `after`: the id of the last one of the answer before. `limit` 1 to 1000, default 100. */
  async list(
    filter: { status?: CampaignStatus; name?: string; after?: string; limit?: number } = {},
  ): Promise<Campaign[]> {
    const { status, name, after, limit = 100 } = filter;
    const position = after === undefined ? undefined : parseId(String(after));
    const problems: Problem[] = [];
    if (status !== undefined && !CAMPAIGN_STATUSES.includes(status)) {
      const message = expectation('status', `one of ${CAMPAIGN_STATUSES.join(', ')}`, status);
      problems.push({ path: 'status', message });
    }
    if (name !== undefined && typeof name !== 'string')
      problems.push({ path: 'name', message: expectation('name', 'text', name) });
    if (after !== undefined && position === undefined)
      problems.push({ path: 'after', message: expectation('after', 'the id of a campaign', after) });
    problems.push(...limitProblems(limit));
    if (problems.length > 0)
      throw new ValidationError('invalid_options', 'Campaigns cannot be listed', problems);
    const found = await listCampaigns(
      this.#options.store,
      {
        ...(status === undefined ? {} : { status }),
        ...(name === undefined ? {} : { name }),
        ...(position === undefined ? {} : { after: position }),
      },
      limit,
    );
    return found.map(viewOf);
  }

  /** Takes a draft into the schedule. Default time: its own, else now. */
  async schedule(id: string, sendAt?: InstantInput): Promise<Campaign> {
    const at = sendAt === undefined ? undefined : this.#instant(sendAt);
    const changed = await this.#change(id, 'schedule', (campaign) => ({
      sendAt: at ?? campaign.schedule.sendAt ?? this.#options.serverNow(),
    }));
    return this.#scheduled(changed);
  }

  /** Moves a campaign that has not started to another time. */
  async reschedule(id: string, sendAt: InstantInput): Promise<Campaign> {
    const at = this.#instant(sendAt);
    const changed = await this.#change(id, 'reschedule', (campaign) => {
      if (campaign.openRuns.length > 0) throw refusal(campaign, 'reschedule', 'it has started');
      return { sendAt: at };
    });
    return changed.status === 'scheduled' ? this.#scheduled(changed) : viewOf(changed);
  }

  /** No new send starts; those in flight end and are recorded. Durable when it resolves; other workers see it within a second. */
  async pause(id: string, by: By = {}): Promise<Campaign> {
    const changed = await this.#change(id, 'pause', () => ({ statusReason: this.#reason('paused', by) }));
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
      const run = await this.#run(campaign, ONCE);
      if (run?.status !== 'freezing') return {};
      const attempts = (await freezingAttempts(store, [run._id])).get(run._id);
      if (attempts !== undefined) await resetFreezing(store, run._id, attempts.number);
      return {};
    };
    const changed = await this.#change(id, 'resume', resume, by);
    events.emit('campaign:resumed', { campaign: ref(changed), status: changed.status });
    return viewOf(await this.#ring(changed));
  }

  /** Ends a campaign: whoever has not been handed over is skipped. What is in flight ends and is recorded. */
  async cancel(id: string, by: By = {}): Promise<Campaign> {
    const changed = await this.#order(id, 'cancel', { kind: 'cancel' }, 'all', by);
    const { statusReason } = changed;
    this.#options.events.emit('campaign:cancelled', {
      campaign: ref(changed),
      ...(statusReason === undefined ? {} : { reason: statusReason }),
    });
    return viewOf(changed);
  }

  /** Another round, with new idempotency keys and new attempts, for those that failed before this order. */
  async retryFailed(id: string, options: RetryFailedOptions = {}): Promise<Campaign> {
    const targets = await this.#targets(id, options.recipients);
    return viewOf(await this.#order(id, 'retry-failed', { kind: 'retry-failed' }, targets, options));
  }

  /** A person's word about recipients of whom nobody knew whether the message left. */
  async resolveUnknown(id: string, options: ResolveUnknownOptions): Promise<Campaign> {
    const { as } = options;
    if (as !== 'sent' && as !== 'failed' && as !== 'resend') {
      throw new ValidationError('invalid_options', 'Unknown recipients cannot be resolved', [
        { path: 'as', message: `Expected \`as\` to be one of sent, failed, resend, got \`${String(as)}\`` },
      ]);
    }
    const targets = await this.#targets(id, options.recipients);
    const action = as === 'resend' ? 'resend-unknown' : 'resolve-unknown';
    return viewOf(
      await this.#order(id, action, { kind: 'resolve-unknown', resolution: as }, targets, options),
    );
  }

  /** Lets pages go on that were put aside because their holders died three times in a row. */
  async releaseParked(id: string, by: By = {}): Promise<Campaign> {
    return viewOf(await this.#order(id, 'release-parked', { kind: 'release-parked' }, 'all', by));
  }

  /** How far the run is; null before it has begun. At most 2 s old while it runs. */
  async progress(id: string, occurrence: string = ONCE): Promise<Progress | null> {
    const run = await this.#run(await this.#existing(id), occurrence);
    return run === null ? null : readProgress(this.#options.store, run, this.#options.serverNow());
  }

  /** The closed books of a run; null while it is open. */
  async report(id: string, occurrence: string = ONCE): Promise<RunReport | null> {
    const run = await this.#run(await this.#existing(id), occurrence);
    return run === null || run.status === 'sending' ? null : (run.report ?? null);
  }

  /** Recounts every single outcome of a run and compares: pages with their counts, counts with the audience. */
  async audit(id: string, occurrence: string = ONCE): Promise<Audit | null> {
    const run = await this.#run(await this.#existing(id), occurrence);
    return run === null ? null : auditRun(this.#options.store, run);
  }

  /** What became of one recipient; null when it is not in the audience (or there is no audience yet). */
  async findDelivery(id: string, recipientId: string, occurrence: string = ONCE): Promise<Delivery | null> {
    const run = await this.#run(await this.#existing(id), occurrence);
    return run === null ? null : findDelivery(this.#options.store, run, recipientId);
  }

  /** Recipients and what became of them, in the order of the audience. */
  async listDeliveries(id: string, options: ListDeliveriesOptions = {}): Promise<DeliveryList> {
    const run = await this.#run(await this.#existing(id), options.occurrence ?? ONCE);
    return run === null ? { deliveries: [] } : listDeliveries(this.#options.store, run, options);
  }

  /** What happened to the campaign, oldest first. `limit` 1 to 1000, default 1000. */
  async journal(
    id: string,
    limit = MAX_LISTED,
  ): Promise<Pick<JournalDoc, 'at' | 'kind' | 'runId' | 'detail' | 'workerId'>[]> {
    const problems = limitProblems(limit);
    if (problems.length > 0)
      throw new ValidationError('invalid_options', 'The journal cannot be read', problems);
    return this.#options.journal.read((await this.#existing(id))._id, limit);
  }

  // -------------------------------------------------------------------------------------------------------------------

  async #existing(id: string): Promise<CampaignDoc> {
    const objectId = parseId(id);
    const found = objectId === undefined ? null : await readCampaign(this.#options.store, objectId);
    if (found === null || found.schemaVersion === undefined)
      throw new CampaignSchedulerError('not_found', `There is no campaign \`${String(id).slice(0, 100)}\`.`);
    return found;
  }

  #run(campaign: CampaignDoc, occurrence: string): Promise<RunDoc | null> {
    return findRun(this.#options.store, campaign._id, occurrence);
  }

  /**
   * Sets the alarm, at the campaign's time or at once, and looks at open runs. What was asked for is durable before: where
   * the alarm cannot be set now, recovery sets it, and the caller must not be told that nothing was done.
   */
  async #ring(campaign: CampaignDoc): Promise<CampaignDoc> {
    const { alarms, store, nudge, serverNow, logger } = this.#options;
    const at = campaign.openRuns.length > 0 ? serverNow() : (campaign.nextRunAt ?? serverNow());
    try {
      const agendaJobId = await alarms.wake(alarmOf(campaign), campaign._id.toHexString(), at);
      await setAgendaJobIds(store, [{ id: campaign._id, agendaJobId }]);
      return { ...campaign, agendaJobId };
    } catch (error) {
      logger.warn({ error, campaign: campaign.name }, 'its alarm could not be set; recovery will set it');
      return campaign;
    } finally {
      nudge();
    }
  }

  async #scheduled(campaign: CampaignDoc): Promise<Campaign> {
    if (campaign.nextRunAt !== null) {
      this.#options.events.emit('campaign:scheduled', {
        campaign: ref(campaign),
        sendAt: campaign.nextRunAt,
      });
    }
    return viewOf(await this.#ring(campaign));
  }

  #instant(input: InstantInput): Date {
    const problem = instantProblem(input, 'sendAt');
    if (problem !== undefined)
      throw new ValidationError('invalid_campaign', 'The campaign cannot be scheduled', [
        { path: 'sendAt', message: problem },
      ]);
    return new Date(instantOf(input));
  }

  #reason(code: string, { by, reason }: By) {
    return {
      code,
      at: this.#options.serverNow(),
      by: by ?? 'user',
      ...(reason === undefined ? {} : { detail: reason.slice(0, 500) }),
    };
  }

  /** Decides on what was just read, and writes under that guard; somebody else's change in between means deciding anew. */
  async #change(
    id: string,
    action: CampaignAction,
    change: (
      campaign: CampaignDoc,
    ) => Omit<CampaignChange, 'now' | 'status'> | Promise<Omit<CampaignChange, 'now' | 'status'>>,
    by: By = {},
  ): Promise<CampaignDoc> {
    const { store, serverNow, journal, logger, nudge } = this.#options;
    for (let tries = 0; tries < TRIES; tries += 1) {
      const campaign = await this.#existing(id);
      if (isNewer(campaign)) throw refusal(campaign, action, 'a newer version of this package wrote it');
      const status = nextStatus(campaign.status, action, campaign.openRuns.length > 0);
      if (status === undefined) throw refusal(campaign, action);
      const fields = await change(campaign);
      const changed = await changeCampaign(store, campaign, {
        ...(status === campaign.status ? {} : { status }),
        ...fields,
        now: serverNow(),
      });
      if (changed === null) continue;
      const { order, statusReason } = fields;
      await journal.write({
        campaignId: campaign._id,
        kind: action,
        detail: {
          status: changed.status,
          ...(order === undefined
            ? {}
            : { order: order.n, targets: order.targets === 'all' ? 'all' : order.targets.length }),
          ...(statusReason === undefined ? by : { by: statusReason.by, reason: statusReason.detail }),
        },
      });
      logger.info({ campaign: campaign.name, id, status: changed.status }, `campaign: ${action}`);
      nudge();
      return changed;
    }
    throw new CampaignSchedulerError(
      'refused',
      `The campaign \`${id}\` is being changed by others all the time; try again.`,
    );
  }

  /** Gives an order in one guarded write, after the order before it has been copied down to the run. */
  async #order(
    id: string,
    action: CampaignAction,
    kind: OrderKind,
    targets: OrderTargets,
    by: By,
  ): Promise<CampaignDoc> {
    const { store, serverNow } = this.#options;
    const changed = await this.#change(id, action, async (campaign) => {
      const run = await this.#run(campaign, ONCE);
      const ref = run === null ? campaign.openRuns[0] : { runId: run._id, occurrence: run.occurrence };
      const cancels = kind.kind === 'cancel' ? { statusReason: this.#reason('cancelled', by) } : {};
      if (kind.kind !== 'cancel' && (run === null || run.status === 'freezing'))
        throw refusal(campaign, action, 'nothing has been sent yet');
      // A freezing run is cancelled by its campaign's status, but its pages may come about at this very moment.
      if (ref === undefined) return cancels;
      if (run?.status === 'cancelled' && orderSends(kind))
        throw refusal(campaign, action, 'its run was cancelled');
      if (kind.kind !== 'cancel' && (run?.orders.length ?? 0) >= MAX_ORDERS)
        throw refusal(campaign, action, `it has had ${MAX_ORDERS} orders`);
      if (campaign.order !== undefined && campaign.order.n > (run?.orderNo ?? 0)) {
        await copyOrder(store, campaign.order, orderSends(campaign.order));
      }
      const order: Order = {
        ...kind,
        n: (campaign.order?.n ?? 0) + 1,
        runId: ref.runId,
        targets,
        at: serverNow().getTime(),
        ...(by.by === undefined ? {} : { by: by.by }),
      };
      const open = campaign.openRuns.some((openRun) => openRun.runId === ref.runId);
      return { ...cancels, order, ...(open ? {} : { reopen: ref }) };
    });
    if (kind.kind === 'cancel') return changed;
    return this.#ring(changed);
  }

  /** Finds named recipients. */
  async #targets(id: string, recipients: readonly string[] | undefined): Promise<OrderTargets> {
    if (recipients === undefined) return 'all';
    const problem = (message: string): ValidationError =>
      new ValidationError('invalid_options', 'These recipients cannot be given an order', [
        { path: 'recipients', message },
      ]);
    if (!Array.isArray(recipients) || recipients.length === 0 || recipients.length > MAX_NAMED) {
      throw problem(`Expected \`recipients\` to be a list of 1 to ${MAX_NAMED} ids`);
    }
    const campaign = await this.#existing(id);
    const run = await this.#run(campaign, ONCE);
    if (run?.audienceId === undefined)
      throw problem('Expected the campaign to have begun; it has no audience yet');
    const places = await locateRecipients(this.#options.store, run.audienceId, recipients);
    const missing = recipients.filter((recipient) => !places.has(recipient));
    if (missing.length > 0)
      throw problem(
        `Not in the audience: ${missing
          .slice(0, 10)
          .map((name) => `\`${name}\``)
          .join(', ')}${missing.length > 10 ? ` and ${missing.length - 10} more` : ''}`,
      );
    const pages = new Map<number, number[]>();
    for (const { n, index } of places.values()) pages.set(n, [...(pages.get(n) ?? []), index]);
    return [...pages].map(([n, indices]) => ({ n, indices }));
  }
}

function limitProblems(limit: unknown): Problem[] {
  const right = Number.isInteger(limit) && Number(limit) >= 1 && Number(limit) <= MAX_LISTED;
  if (right) return [];
  return [{ path: 'limit', message: expectation('limit', `an integer from 1 to ${MAX_LISTED}`, limit) }];
}

const ref = (campaign: CampaignDoc) => ({ id: campaign._id.toHexString(), name: campaign.name });

function refusal(campaign: CampaignDoc, action: CampaignAction, why?: string): CampaignSchedulerError {
  const because = why ?? `it is ${campaign.status}; possible when ${statusesFor(action).join(', ')}`;
  return new CampaignSchedulerError(
    'refused',
    `Cannot ${action} the campaign \`${campaign.name}\`: ${because}.`,
    {
      details: { action, status: campaign.status, id: campaign._id.toHexString() },
    },
  );
}
