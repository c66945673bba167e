/**
 * Changes to campaigns by people: decided on what was just read, written under that guard, decided anew where somebody
 * else was faster; then the alarm is set and workers look. Invariant: an order is given only after the one before it has
 * been copied down, so none is lost; what was written is never reported as having failed.
 */
import { breakerOf } from './core/breaker-document.ts';
import { type CampaignAction, isHeldByBreaker, nextStatus, statusesFor } from './core/campaign-machine.ts';
import { type Order, type OrderKind, type OrderTargets, orderSends } from './core/orders.ts';
import { isPlainObject } from './core/plain-data.ts';
import type { CreationOptions } from './create-campaign.ts';
import { ONCE } from './delivery/open-run.ts';
import { CampaignSchedulerError, type Problem, ValidationError } from './errors.ts';
import type { EventBus } from './events.ts';
import { existingCampaign } from './existing-campaign.ts';
import { expectation, refuseProblems } from './input-checks.ts';
import type { Logger } from './logger.ts';
import { alarmOf } from './queue/alarm.ts';
import type { Alarms } from './queue/alarms.ts';
import { locateRecipients } from './store/audiences.ts';
import { readBreakers } from './store/breakers.ts';
import { setAgendaJobIds } from './store/campaign-heads.ts';
import { type CampaignChange, changeCampaign } from './store/campaign-transitions.ts';
import { isNewer } from './store/campaigns.ts';
import type { CampaignDoc, RunDoc, StatusReason } from './store/documents.ts';
import type { Journal } from './store/journal.ts';
import { copyOrder, findRun, latestRuns, readRun } from './store/runs.ts';

const TRIES = 10;
const MAX_NAMED = 1000;
/** A run keeps its orders for ever, and one can name 1,000 recipients. */
const MAX_ORDERS = 500;

export interface CampaignsOptions extends CreationOptions {
  readonly alarms: Alarms;
  readonly journal: Journal;
  readonly events: EventBus;
  readonly logger: Logger;
  readonly nudge: () => void;
}

/** Who gives an order and why, for the status reason and the journal: at most 500 characters each. */
export interface By {
  readonly by?: string;
  readonly reason?: string;
}

/** Which run an order is about. Default: of a recurring campaign the open one, else the latest. */
export interface OfRun {
  readonly occurrence?: string | undefined;
}

type Change = Omit<CampaignChange, 'now' | 'status'>;

export class CampaignChanges {
  readonly #options: CampaignsOptions;

  constructor(options: CampaignsOptions) {
    this.#options = options;
  }

  existing(id: string): Promise<CampaignDoc> {
    return existingCampaign(this.#options.store, id);
  }

  /** The run of an occurrence; of a recurring campaign the open one, else the latest, where none is named. */
  async run(campaign: CampaignDoc, occurrence: string | undefined): Promise<RunDoc | null> {
    const { store } = this.#options;
    if (occurrence !== undefined || campaign.schedule.recurrence === undefined)
      return findRun(store, campaign._id, occurrence ?? ONCE);
    const [open] = campaign.openRuns;
    if (open !== undefined) return readRun(store, open.runId);
    const [latest] = await latestRuns(store, campaign._id, undefined, 1);
    return latest === undefined ? null : readRun(store, latest._id);
  }

  /**
   * Sets the alarm, at the campaign's time or at once, and looks at open runs. What was asked for is durable before: where
   * the alarm cannot be set now, recovery sets it, and the caller must not be told that nothing was done.
   */
  async ring(campaign: CampaignDoc): Promise<CampaignDoc> {
    const { alarms, store, nudge, serverNow, logger } = this.#options;
    // What was left out by a change of the rule is told when the alarm rings.
    const isBusy = campaign.openRuns.length > 0 || campaign.leftOut !== undefined;
    const at = isBusy ? serverNow() : (campaign.nextRunAt ?? serverNow());
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

  reason(code: string, { by, reason }: By): StatusReason {
    return {
      code,
      at: this.#options.serverNow(),
      by: by ?? 'user',
      ...(reason === undefined ? {} : { detail: reason }),
    };
  }

  /** Decides on what was just read, and writes under that guard; somebody else's change in between means deciding anew. */
  async change(
    id: string,
    action: CampaignAction,
    change: (campaign: CampaignDoc) => Change | Promise<Change>,
    by: By = {},
  ): Promise<CampaignDoc> {
    const { store, serverNow, journal, logger, nudge } = this.#options;
    checkBy(by); // after the write it would be too late to refuse
    for (let tries = 0; tries < TRIES; tries += 1) {
      const campaign = await this.existing(id);
      if (isNewer(campaign)) throw refusal(campaign, action, 'a newer version of this package wrote it');
      const held = isHeldByBreaker(campaign) && this.#options.options.breaker !== false;
      const status = nextStatus(campaign.status, action, campaign.openRuns.length > 0, held);
      if (status === undefined && held && action === 'resume')
        throw refusal(campaign, action, await this.#breakerWords(campaign.messenger));
      if (status === undefined) throw refusal(campaign, action);
      const fields = await change(campaign);
      const changed = await changeCampaign(store, campaign, {
        ...(status === campaign.status ? {} : { status }),
        ...fields,
        now: serverNow(),
      });
      if (changed === null) continue;
      const { order, open } = fields;
      await journal.write({
        campaignId: campaign._id,
        kind: action,
        detail: {
          status: changed.status,
          ...(order === undefined
            ? {}
            : { order: order.n, targets: order.targets === 'all' ? 'all' : order.targets.length }),
          ...(open === undefined || order !== undefined
            ? {}
            : { occurrences: open.map(({ occurrence }) => occurrence) }),
          ...(by.by === undefined ? {} : { by: by.by }),
          ...(by.reason === undefined ? {} : { reason: by.reason }),
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

  /** Why what the breaker has paused cannot be resumed, and what can be done instead. */
  async #breakerWords(messenger: string): Promise<string> {
    const { store } = this.#options;
    const { document, now = 0 } = (await readBreakers(store, [messenger])).get(messenger) ?? {};
    const breaker = document === undefined ? undefined : breakerOf(document, now);
    if (breaker === undefined || breaker.state === 'closed')
      return `the breaker of the messenger \`${messenger}\` has just closed; the campaign goes on by itself within moments`;
    const since = new Date(breaker.openedAt).toISOString();
    const next =
      breaker.state === 'half_open'
        ? 'it is being tried right now'
        : breaker.nextProbeAt === undefined
          ? `opened by ${breaker.manual.by}, it stays so until somebody closes it`
          : `the next probe is at ${new Date(breaker.nextProbeAt).toISOString()}`;
    return `the breaker of its messenger \`${messenger}\` is open since ${since} (${breaker.detail}); ${next}. The campaign goes on by itself when the messenger works; close or reset the breaker to try it at once`;
  }

  /** Gives an order in one guarded write, after the order before it has been copied down to its runs. */
  async order(
    id: string,
    action: CampaignAction,
    kind: OrderKind,
    targets: OrderTargets,
    by: By & OfRun,
  ): Promise<CampaignDoc> {
    const { store, serverNow } = this.#options;
    const cancels = kind.kind === 'cancel';
    const give = async (campaign: CampaignDoc): Promise<Change> => {
      const [oldest] = campaign.openRuns;
      // A cancellation is about what is open; every open run takes it from the campaign.
      const run = !cancels
        ? await this.run(campaign, by.occurrence)
        : oldest === undefined
          ? null
          : await readRun(store, oldest.runId);
      const ref = run === null ? oldest : { runId: run._id, occurrence: run.occurrence };
      // Nothing comes after a cancellation; runs that are open end by their orders and need no time.
      const recurs = campaign.schedule.recurrence !== undefined;
      const never = { nextRunAt: null, ...(recurs ? { nextOccurrence: null } : {}) };
      const fields = cancels ? { statusReason: this.reason('cancelled', by), fields: never } : {};
      if (!cancels && (run === null || run.status === 'freezing' || run.audienceId === undefined))
        throw refusal(campaign, action, 'nothing has been sent yet');
      // A freezing run is cancelled by its campaign's status, but its pages may come about at this very moment.
      if (ref === undefined) return fields;
      if (run?.status === 'cancelled' && orderSends(kind))
        throw refusal(campaign, action, 'its run was cancelled');
      if (!cancels && (run?.orders.length ?? 0) >= MAX_ORDERS)
        throw refusal(campaign, action, `it has had ${MAX_ORDERS} orders`);
      await this.#copyDown(campaign);
      const order: Order = {
        ...kind,
        n: (campaign.order?.n ?? 0) + 1,
        runId: ref.runId,
        targets,
        at: serverNow().getTime(),
        ...(by.by === undefined ? {} : { by: by.by }),
      };
      // Also where it was open when read: it may close before this is written, and closing does not count as a change.
      const open = campaign.openRuns.find(({ runId }) => runId === ref.runId) ?? ref;
      return { ...fields, order, open: [open] };
    };
    const changed = await this.change(id, action, give, by);
    return cancels ? changed : this.ring(changed);
  }

  /** The campaign's last order, to every run it concerns: a new one takes its place. */
  async #copyDown({ order, openRuns }: CampaignDoc): Promise<void> {
    if (order === undefined) return;
    const runs = order.kind === 'cancel' ? openRuns.map(({ runId }) => runId) : [order.runId];
    for (const runId of runs) await copyOrder(this.#options.store, order, orderSends(order), runId);
  }

  /** Finds named recipients. */
  async targets(
    id: string,
    recipients: readonly string[] | undefined,
    { occurrence }: OfRun,
  ): Promise<OrderTargets> {
    if (recipients === undefined) return 'all';
    const problem = (message: string): ValidationError =>
      new ValidationError('invalid_options', 'These recipients cannot be given an order', [
        { path: 'recipients', message },
      ]);
    if (!Array.isArray(recipients) || recipients.length === 0 || recipients.length > MAX_NAMED) {
      throw problem(expectation('recipients', `a list of 1 to ${MAX_NAMED} ids`, recipients));
    }
    const run = await this.run(await this.existing(id), occurrence);
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

const MAX_WORDS = 500;

/** @throws ValidationError `invalid_options`. */
export function checkBy(by: unknown): asserts by is By {
  const problems: Problem[] = [];
  if (!isPlainObject(by)) problems.push({ path: 'by', message: expectation('by', 'an object', by) });
  else {
    for (const path of ['by', 'reason']) {
      const value = by[path];
      if (value === undefined || (typeof value === 'string' && value.length <= MAX_WORDS)) continue;
      problems.push({ path, message: expectation(path, `a text of at most ${MAX_WORDS} characters`, value) });
    }
  }
  refuseProblems('The order is wrong', problems);
}

/** Where an action's own name does not read as English. */
const WORDS: Partial<Record<CampaignAction, string>> = {
  'run-now': 'run now',
  'retry-failed': 'retry the failed recipients of',
  'resend-unknown': 'resend to the unknown recipients of',
  'resolve-unknown': 'resolve the unknown recipients of',
  'release-parked': 'release the parked pages of',
};

export function refusal(campaign: CampaignDoc, action: CampaignAction, why?: string): CampaignSchedulerError {
  const because = why ?? `it is ${campaign.status}; possible when ${statusesFor(action).join(', ')}`;
  return new CampaignSchedulerError(
    'refused',
    `Cannot ${WORDS[action] ?? action} the campaign \`${campaign.name}\`: ${because}.`,
    {
      details: { action, status: campaign.status, id: campaign._id.toHexString() },
    },
  );
}
