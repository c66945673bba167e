/**
 * The circuit breakers as people see them, and their orders to them. Invariant: a method resolves when what it did is
 * durable; a person's order wins over whatever a worker is about to write, because it has a new term.
 */
import { type By, checkBy } from './campaign-changes.ts';
import type { ResolvedOptions } from './config.ts';
import { DEFAULTS } from './config.ts';
import { type Breaker, type BreakerState, closed, NEW_BREAKER, openedByHand, reset } from './core/breaker.ts';
import { breakerOf } from './core/breaker-document.ts';
import { CampaignSchedulerError } from './errors.ts';
import {
  type BreakerCampaignsOptions,
  pauseCampaigns,
  resumeCampaigns,
  whyPaused,
} from './services/breaker-campaigns.ts';
import { allBreakers, type ReadBreaker, readBreakers, repairBreaker, turnBreaker } from './store/breakers.ts';
import { heldByBreakers } from './store/campaign-transitions.ts';
import { announced } from './store/workers.ts';
import { suggestionSentence } from './suggestion.ts';

export interface BreakersOptions extends BreakerCampaignsOptions {
  readonly options: Pick<ResolvedOptions, 'messengers' | 'breaker'>;
  readonly serverNow: () => Date;
  /** A person changed one. */
  readonly onChange: () => void;
  /** @throws CampaignSchedulerError `stopped`. */
  readonly assertRunning: () => void;
}

/** How the breaker of a messenger stands. */
export interface BreakerStatus {
  readonly state: BreakerState;
  /** Why it is not closed. */
  readonly detail: string | null;
  readonly openedAt: Date | null;
  /** When it is tried again; null while it is closed or being tried, and where a person opened it. */
  readonly nextProbeAt: Date | null;
  /** Who opened it by hand. */
  readonly manual: { readonly by: string; readonly reason?: string; readonly at: Date } | null;
  /** Openings in a row. */
  readonly openings: number;
  /** Failures within the window, or those that opened it. */
  readonly failures: number;
  readonly campaignsPaused: number;
}

const TRIES = 10;

export class Breakers {
  readonly #options: BreakersOptions;

  constructor(options: BreakersOptions) {
    this.#options = options;
  }

  /** The breaker of every messenger that a worker has, or had within a week. Rejects with `stopped`. */
  async status(): Promise<Readonly<Record<string, BreakerStatus>>> {
    const { store, serverNow, options, assertRunning } = this.#options;
    assertRunning();
    const [elsewhere, found, held] = await Promise.all([
      announced(store),
      allBreakers(store),
      heldByBreakers(store),
    ]);
    const read = new Map(found.map((one) => [one.document._id, one]));
    const names = new Set([
      ...Object.keys(options.messengers),
      ...elsewhere.messengers.map(({ name }) => name),
      ...read.keys(),
    ]);
    const { windowMs } = options.breaker === false ? DEFAULTS.breaker : options.breaker;
    const now = serverNow().getTime();
    return Object.fromEntries(
      [...names].sort().map((name) => {
        const breaker = valid(read.get(name));
        return [name, statusOf(breaker, held.get(name) ?? 0, now - windowMs)];
      }),
    );
  }

  /**
   * Nothing goes out by this messenger, and its campaigns are paused, until a person closes it: it is not tried. Rejects
   * with `unknown_messenger`, `refused` (the breaker is off), `stopped`.
   */
  async open(messenger: string, by: By = {}): Promise<BreakerStatus> {
    const { events } = this.#options;
    const breaker = await this.#change(messenger, 'opened', by, (from, now) =>
      openedByHand(from, {
        by: whoOf(by),
        at: now,
        ...(by.reason === undefined ? {} : { reason: by.reason }),
      }),
    );
    if (breaker.state === 'open') {
      const { detail, openings } = breaker;
      events.emit('breaker:opened', { messenger, detail, openings, nextProbeAt: null, by: whoOf(by) });
      await this.#soon(messenger, pauseCampaigns(this.#options, messenger, whyPaused(breaker)));
    }
    return this.#statusOf(messenger, breaker);
  }

  /** As if the probe had succeeded: what the breaker had paused goes on, slowly at first. Rejects like `open`. */
  async close(messenger: string, by: By = {}): Promise<BreakerStatus> {
    return this.#closed(messenger, by, await this.#change(messenger, 'closed', by, closed));
  }

  /** Closes it and forgets all that spoke against the messenger; nothing goes slowly. Rejects like `open`. */
  async reset(messenger: string, by: By = {}): Promise<BreakerStatus> {
    return this.#closed(messenger, by, await this.#change(messenger, 'reset', by, reset));
  }

  async #closed(messenger: string, by: By, breaker: Breaker): Promise<BreakerStatus> {
    this.#options.events.emit('breaker:closed', { messenger, by: whoOf(by) });
    await this.#soon(messenger, resumeCampaigns(this.#options, messenger));
    return this.#statusOf(messenger, breaker);
  }

  /** The order is durable: should its campaigns not follow it here, workers make them at their next look. */
  async #soon(messenger: string, follow: Promise<void>): Promise<void> {
    try {
      await follow;
    } catch (error) {
      this.#options.logger.warn({ error, messenger }, 'campaigns follow their breaker a little later');
    }
  }

  async #statusOf(messenger: string, breaker: Breaker): Promise<BreakerStatus> {
    return statusOf(breaker, (await heldByBreakers(this.#options.store)).get(messenger) ?? 0, 0);
  }

  /** Decides on what was just read, and writes under its term; somebody else's transition in between means deciding anew. */
  async #change(
    messenger: string,
    what: string,
    by: By,
    turn: (from: Breaker, now: number) => Breaker,
  ): Promise<Breaker> {
    const { store, serverNow, options, journal, logger, onChange, assertRunning } = this.#options;
    assertRunning();
    checkBy(by);
    await this.#assertKnown(messenger);
    if (options.breaker === false)
      throw new CampaignSchedulerError('refused', 'The breaker is off (`breaker: false`).');
    for (let tries = 0; tries < TRIES; tries += 1) {
      const read = (await readBreakers(store, [messenger])).get(messenger);
      const now = read?.now ?? serverNow().getTime();
      const from = valid(read);
      const to = turn(from ?? { ...NEW_BREAKER, term: now }, now);
      const isDone =
        from === undefined && read !== undefined
          ? await repairBreaker(store, read.document, to)
          : await turnBreaker(store, messenger, from ?? NEW_BREAKER, to);
      if (!isDone) continue;
      const detail = { messenger, by: whoOf(by), ...(by.reason === undefined ? {} : { reason: by.reason }) };
      logger.warn(detail, `breaker ${what} by hand`);
      await journal.write({ kind: `breaker-${what}`, detail });
      onChange();
      return to;
    }
    throw new CampaignSchedulerError(
      'refused',
      `The breaker of \`${messenger}\` is being changed by others all the time; try again.`,
    );
  }

  async #assertKnown(messenger: string): Promise<void> {
    const { store, options } = this.#options;
    const known = new Set([
      ...Object.keys(options.messengers),
      ...(await announced(store)).messengers.map(({ name }) => name),
    ]);
    if (known.has(messenger)) return;
    const name = String(messenger).slice(0, 100);
    throw new CampaignSchedulerError(
      'unknown_messenger',
      `Unknown messenger \`${name}\`. ${suggestionSentence(name, known, 'messengers')}`,
    );
  }
}

const whoOf = (by: By): string => by.by ?? 'user';

/** Undefined: what is stored is nonsense. */
function valid(read: ReadBreaker | undefined): Breaker | undefined {
  return read === undefined ? NEW_BREAKER : breakerOf(read.document, read.now);
}

/** Failures before `from` do not count while it is closed. */
function statusOf(breaker: Breaker = NEW_BREAKER, campaignsPaused: number, from: number): BreakerStatus {
  const { state, openings } = breaker;
  const isClosed = state === 'closed';
  const counted = Object.values(breaker.evidence).filter(({ at }) => !isClosed || at > from);
  const failures = counted.reduce((sum, { failed }) => sum + failed, 0);
  const common = { state, openings: isClosed ? 0 : openings, failures, campaignsPaused };
  if (breaker.state === 'closed') {
    return { ...common, detail: null, openedAt: null, nextProbeAt: null, manual: null };
  }
  const { detail } = breaker;
  const nextProbeAt = breaker.state === 'open' ? breaker.nextProbeAt : undefined;
  const manual = breaker.state === 'open' ? breaker.manual : undefined;
  return {
    ...common,
    detail,
    openedAt: new Date(breaker.openedAt),
    nextProbeAt: nextProbeAt === undefined ? null : new Date(nextProbeAt),
    manual: manual === undefined ? null : { ...manual, at: new Date(manual.at) },
  };
}
