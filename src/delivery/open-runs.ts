/**
 * The campaigns with an open run, as this worker knows them: reads them, takes every step that is a single guarded write,
 * and finds out where pages may be free. Invariant: what is remembered here is only a hint; every step is one that any
 * other worker may take or repeat at the same time, and what goes wrong with one campaign does not stop the others.
 */
import type { Clock } from '../clock.ts';
import { isHeldByBreaker } from '../core/campaign-machine.ts';
import { concerns } from '../core/orders.ts';
import { decideRunStep, type RunStep } from '../core/run-step.ts';
import { inParallel } from '../in-parallel.ts';
import { isNewer, type OpenCampaign, openCampaigns } from '../store/campaigns.ts';
import type { OpenRunRef, RunDoc } from '../store/documents.ts';
import type { ClaimKind, RunSize } from '../store/ledger-claims.ts';
import { dueRuns, lookAtPages } from '../store/ledger-sums.ts';
import { cancelFreezing, readRuns, refreshRuns } from '../store/runs.ts';
import { sizeOf } from './closing.ts';
import type { HeldRun, HoldEnvironment } from './hold-environment.ts';
import type { PageHold } from './page-hold.ts';
import type { RunFreezer } from './run-freezer.ts';
import { copyOrderDown, endRun, insertMissingRun, type RunStepsOptions } from './run-steps.ts';
import { hoursOf, type RunHours } from './send-hours.ts';
import { ZonesToTry } from './zones-to-try.ts';

const INSPECT_AT_ONCE = 500;
const NEVER = Number.NEGATIVE_INFINITY;
const STEPS_AT_ONCE = 8;
const LISTS_PER_LOOK = 200;
const LOOK_FOR_RETRIES_MS = 1000;
/** The pages of a campaign that is paused, or outside its window, change only by what its last holders still wrote. */
const INSPECT_RESTING_MS = 10_000;

export interface OpenRun {
  campaign: OpenCampaign;
  readonly ref: OpenRunRef;
  run: RunDoc | undefined;
  step: RunStep;
  /** Must be read again: something may have changed that the campaign's document does not show. */
  stale: boolean;
  held: HeldRun | undefined;
  /** The hours in which it may send; undefined: always. */
  hours: RunHours | undefined;
  readonly holds: Set<PageHold>;
  claiming: number;
  /** Pages that were done here. When these are all, no claim has to find out that none is left. */
  pagesDone: number;
  /** Where a page may be found. Cleared by a claim that finds none, set by looking. */
  readonly hints: Record<ClaimKind, boolean>;
  readonly zonesToTry: ZonesToTry;
  lastServed: number;
  /** When it was last helped to an audience, monotonic. */
  advancedAt: number;
  /** When its pages were last looked at, monotonic. */
  inspectedAt: number;
}

export interface OpenRunsOptions {
  readonly env: HoldEnvironment;
  readonly steps: RunStepsOptions;
  readonly freezer: RunFreezer;
  readonly hasMessenger: (name: string) => boolean;
  /** Does this worker try a few recipients with it for the breaker, which is not closed? */
  readonly mayTry: (messenger: string) => boolean;
  readonly pollMs: number;
  /** It is no longer among the entries. */
  readonly onGone: (entry: OpenRun) => void;
}

/** Are pages of it claimed in this step? */
export const isPageStep = (step: RunStep): boolean => step === 'send' || step === 'apply-orders';

/** The zones in which it may send now; undefined: at all. Empty: its window is closed. */
function zonesNow({ hours }: OpenRun, now: Date): readonly string[] | undefined {
  const zones = hours?.openZones(now);
  return zones === 'all' ? undefined : zones;
}

/** May it send nothing now because of its window? */
export const isClosed = (entry: OpenRun, now: Date): boolean => zonesNow(entry, now)?.length === 0;

/** Is a page of it known that may be claimed, now or when its window opens? */
export function hasHint({ step, hints }: OpenRun): boolean {
  return hints.behind || (step === 'send' && (hints.pending || hints.due));
}

export class OpenRuns {
  readonly entries = new Map<string, OpenRun>();
  readonly #options: OpenRunsOptions;
  #retriesLookedForAt = NEVER;

  constructor(options: OpenRunsOptions) {
    this.#options = options;
  }

  /**
   * One complete look. Throws where the campaigns themselves cannot be read. `onKnown`: there may be pages to claim. True:
   * more runs wait for an audience than this look has helped.
   */
  async look(onKnown: () => void): Promise<boolean> {
    this.#sync(await openCampaigns(this.#options.env.store));
    await this.#readStale();
    onKnown();
    if (await this.#takeSteps()) await this.#readStale();
    onKnown();
    await Promise.all([this.#inspect(), this.#lookForRetries()]);
    return [...this.entries.values()].some(
      ({ step, advancedAt }) => step === 'freeze' && advancedAt === NEVER,
    );
  }

  #sync(campaigns: readonly OpenCampaign[]): void {
    const { clock } = this.#options.env;
    const open = new Set<string>();
    for (const campaign of campaigns) {
      if (isNewer(campaign)) continue; // a newer version's: its workers know what to do
      for (const ref of campaign.openRuns) {
        open.add(ref.runId);
        const known = this.entries.get(ref.runId);
        if (known === undefined) this.entries.set(ref.runId, newOpenRun(campaign, ref, clock));
        else {
          if (known.campaign.rev !== campaign.rev || known.campaign.status !== campaign.status) {
            known.stale = true;
            known.inspectedAt = NEVER;
          }
          known.campaign = campaign;
        }
      }
    }
    for (const [runId, entry] of this.entries) {
      if (open.has(runId)) continue;
      for (const hold of entry.holds) hold.letGo('pause');
      this.#remove(entry);
    }
  }

  async #readStale(): Promise<void> {
    const { store } = this.#options.env;
    const entries = [...this.entries.values()];
    const unread = entries.filter((entry) => entry.run === undefined);
    for (const entry of this.#freezingInTurn()) entry.stale = true;
    const stale = entries.filter(({ run, stale }) => run !== undefined && stale);
    const [whole, heads] = await Promise.all([
      readRuns(
        store,
        unread.map((entry) => entry.ref.runId),
      ),
      refreshRuns(
        store,
        stale.map((entry) => entry.ref.runId),
      ),
    ]);
    const runs = new Map(whole.map((run) => [run._id, run]));
    for (const head of heads) {
      const before = this.entries.get(head._id)?.run;
      if (before !== undefined) runs.set(head._id, { ...head, content: before.content });
    }
    for (const entry of entries) {
      const run = runs.get(entry.ref.runId);
      if (run !== undefined) this.#update(entry, run);
      entry.stale = false;
      const before = entry.step;
      entry.step = this.#stepOf(entry);
      if (entry.step === 'send' && before !== 'send') entry.inspectedAt = NEVER; // it may have rested
      if (entry.step !== 'send') for (const hold of entry.holds) hold.letGo('pause');
    }
  }

  /**
   * Runs whose turn it is to get an audience; they may have got it from anybody. Sources are watched at every look. Of
   * lists, which need a few writes each, some are helped at a time, so that a look stays short.
   */
  #freezingInTurn(): OpenRun[] {
    const freezing = [...this.entries.values()].filter(
      ({ run, step }) => run?.status === 'freezing' && step === 'freeze',
    );
    const isList = ({ run }: OpenRun): boolean => run !== undefined && 'audienceId' in run.audience;
    const lists = freezing.filter(isList).sort((a, b) => a.advancedAt - b.advancedAt);
    return [...lists.slice(0, LISTS_PER_LOOK), ...freezing.filter((entry) => !isList(entry))];
  }

  #update(entry: OpenRun, run: RunDoc): void {
    const before = entry.run;
    entry.run = run;
    if (before?.status !== run.status) {
      entry.hints.pending = true;
      entry.hours = hoursOf(run); // its zones are known since it has an audience
    }
    if (before?.orderNo !== run.orderNo && run.orderNo > 0) {
      entry.hints.behind = true;
      entry.pagesDone = 0; // the order may open them again
    }
    if (entry.held !== undefined) {
      entry.held.doc = run;
      for (const hold of entry.holds) hold.kick();
    }
  }

  #stepOf({ campaign, ref, run }: OpenRun): RunStep {
    if (run !== undefined && isNewer(run)) return 'wait';
    const messenger = run?.messenger ?? campaign.messenger;
    return decideRunStep({
      campaignStatus: campaign.status,
      heldByBreaker: isHeldByBreaker(campaign),
      onTrial: this.#options.mayTry(messenger),
      isFirst: campaign.openRuns[0]?.runId === ref.runId,
      orderNo: campaign.order !== undefined && concerns(campaign.order, ref.runId) ? campaign.order.n : 0,
      run,
      hasMessenger: this.#options.hasMessenger(messenger),
    });
  }

  /** Takes the steps that are single writes. True: runs have to be read again. */
  async #takeSteps(): Promise<boolean> {
    const { steps, freezer, env } = this.#options;
    const now = env.clock.monotonic();
    let changed = false;
    const freezing: RunDoc[] = [];
    for (const entry of this.#freezingInTurn()) {
      if (entry.run === undefined) continue;
      entry.advancedAt = now;
      freezing.push(entry.run);
      if ('audienceId' in entry.run.audience) changed = entry.stale = true;
    }
    await inParallel(this.entries.values(), STEPS_AT_ONCE, async (entry) => {
      const { step, campaign, ref } = entry;
      if (step !== 'insert-run' && step !== 'copy-order' && step !== 'cancel-freezing') return;
      await this.#alone(entry, async () => {
        if (step === 'insert-run') await insertMissingRun(steps, campaign, ref);
        else if (step === 'copy-order') await copyOrderDown(steps, campaign, ref.runId);
        else await cancelFreezing(env.store, ref.runId);
      });
      entry.stale = true;
      changed = true;
    });
    const waiting = [...this.entries.values()].filter(({ run }) => run?.status === 'freezing');
    freezer.keepOnly(new Set(waiting.map(({ ref }) => ref.runId)));
    if (freezing.length > 0) await freezer.advance(freezing);
    return changed;
  }

  /** What goes wrong with one campaign must not stop the others. */
  async #alone(entry: OpenRun, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const { name } = entry.campaign;
      this.#options.env.logger.warn(
        { error, campaign: name, step: entry.step },
        'a step failed; trying again',
      );
    }
  }

  /** Looks at the pages of runs where no page is known to be free; ends those that have no page left to work on. */
  async #inspect(): Promise<void> {
    const { env, pollMs } = this.#options;
    const now = env.clock.monotonic();
    const serverNow = env.serverNow();
    const rests = (entry: OpenRun): boolean =>
      (entry.campaign.status === 'paused' && entry.step !== 'send') ||
      (entry.holds.size === 0 && isClosed(entry, serverNow));
    // Once per poll, however many looks are asked for: with many campaigns there is always one that asks.
    const wasLookedAt = (entry: OpenRun): boolean =>
      now - entry.inspectedAt < (rests(entry) ? INSPECT_RESTING_MS : pollMs / 2);
    const idle = [...this.entries.values()].filter(
      (entry) => isPageStep(entry.step) && entry.claiming === 0 && !hasHint(entry) && !wasLookedAt(entry),
    );
    for (let first = 0; first < idle.length; first += INSPECT_AT_ONCE) {
      const batch = idle.slice(first, first + INSPECT_AT_ONCE);
      const sizes = batch.flatMap((entry) => sizeNow(entry, serverNow) ?? []);
      const found = await lookAtPages(env.store, sizes, serverNow);
      await inParallel(batch, STEPS_AT_ONCE, async (entry) => {
        const pages = found.get(entry.ref.runId);
        if (pages === undefined) return;
        entry.inspectedAt = now;
        Object.assign(entry.hints, { pending: pages.pending, due: pages.due, behind: pages.behind });
        entry.zonesToTry.foundIn(pages.zones);
        // A hold that lost its page may still be telling what it knows; the books close without it and are corrected.
        if (!pages.unfinished) await this.#alone(entry, () => this.#end(entry));
      });
    }
  }

  /** Retries that fell due come before pages that nobody has touched, however many of those are left. */
  async #lookForRetries(): Promise<void> {
    const { env } = this.#options;
    // Often enough for retries, which fall due in steps of seconds; a look that somebody's nudge asked for must be quick.
    const at = env.clock.monotonic();
    if (at - this.#retriesLookedForAt < LOOK_FOR_RETRIES_MS) return;
    this.#retriesLookedForAt = at;
    const busy = [...this.entries.values()].filter(
      (entry) =>
        entry.step === 'send' && !entry.hints.due && hasHint(entry) && !isClosed(entry, env.serverNow()),
    );
    for (let first = 0; first < busy.length; first += INSPECT_AT_ONCE) {
      const batch = busy.slice(first, first + INSPECT_AT_ONCE);
      const now = env.serverNow();
      const sizes = batch.flatMap((entry) => sizeNow(entry, now) ?? []);
      const due = await dueRuns(env.store, sizes, now);
      for (const entry of batch) if (due.has(entry.ref.runId)) entry.hints.due = true;
    }
  }

  #remove(entry: OpenRun): void {
    this.entries.delete(entry.ref.runId);
    this.#options.onGone(entry);
  }

  async #end(entry: OpenRun): Promise<void> {
    if (entry.run === undefined) return;
    const answer = await endRun(this.#options.steps, entry.campaign, entry.run);
    if (answer === 'ended') this.#remove(entry);
    else if (answer === 'orders-behind') entry.hints.behind = true;
    else {
      entry.stale = true;
      // A person's pause is waited for.
      if (entry.campaign.status !== 'paused' || isHeldByBreaker(entry.campaign)) entry.inspectedAt = NEVER;
    }
  }
}

/** What the pages of a run are looked for with; undefined while it has not been read. */
export function sizeNow(entry: OpenRun, now: Date): RunSize | undefined {
  if (entry.run === undefined) return undefined;
  const zones = zonesNow(entry, now);
  return { ...sizeOf(entry.run), ...(zones === undefined ? {} : { zones }) };
}

function newOpenRun(campaign: OpenCampaign, ref: OpenRunRef, clock: Clock): OpenRun {
  return {
    campaign,
    ref,
    run: undefined,
    step: 'wait',
    stale: false,
    held: undefined,
    hours: undefined,
    holds: new Set(),
    claiming: 0,
    pagesDone: 0,
    hints: { due: false, behind: false, pending: true },
    zonesToTry: new ZonesToTry(clock),
    lastServed: NEVER,
    advancedAt: NEVER,
    inspectedAt: NEVER,
  };
}
