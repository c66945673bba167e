/**
 * The send window of a run as its workers ask for it: is a page open now, which zones are, and when does one open. All by
 * the server's time. Invariant: an answer is remembered only for the time in which it cannot change, so that asking before
 * every send costs nothing and no send begins at the closing instant or later.
 */
import { windowAt, zoneOf } from '../core/send-window.ts';
import { RECIPIENT_ZONE, type SendWindow } from '../core/send-window-check.ts';
import type { RunDoc } from '../store/documents.ts';

/** Whose pages may be claimed: all, or those that carry one of these zones. */
export type OpenZones = 'all' | readonly string[];

const NOBODY: readonly string[] = Object.freeze([]);

/** The hours of one zone. */
export class ZoneHours {
  readonly #window: SendWindow;
  readonly #zone: string;
  #known = { fromMs: Number.POSITIVE_INFINITY, untilMs: Number.NEGATIVE_INFINITY, open: false };

  constructor(window: SendWindow, zone: string) {
    this.#window = window;
    this.#zone = zone;
  }

  isOpen(nowMs: number): boolean {
    const { fromMs, untilMs } = this.#known;
    if (nowMs < fromMs || nowMs >= untilMs) {
      const state = windowAt(this.#window, this.#zone, new Date(nowMs));
      const changesAt = state.open ? state.closesAt : state.opensAt;
      this.#known = { fromMs: nowMs, untilMs: changesAt?.getTime() ?? Infinity, open: state.open };
    }
    return this.#known.open;
  }

  /** The first instant from this one on at which a message may leave. */
  openFrom(atMs: number): number {
    const state = windowAt(this.#window, this.#zone, new Date(atMs));
    return state.open ? atMs : state.opensAt.getTime();
  }
}

/** The hours of a run, zone by zone. */
export class RunHours {
  readonly #window: SendWindow;
  /** Zones of its pages; undefined: one zone for all of them. */
  readonly #zones: readonly string[] | undefined;
  readonly #hours = new Map<string, ZoneHours>();

  constructor(window: SendWindow, zones: readonly string[] | undefined) {
    this.#window = window;
    this.#zones = window.timezone === RECIPIENT_ZONE ? (zones ?? NOBODY) : undefined;
  }

  /** Of the page of recipients who have this zone of their own. */
  ofPage(timezone: string | undefined): ZoneHours {
    const zone = zoneOf(this.#window, timezone);
    let hours = this.#hours.get(zone);
    if (hours === undefined) {
      hours = new ZoneHours(this.#window, zone);
      this.#hours.set(zone, hours);
    }
    return hours;
  }

  openZones(now: Date): OpenZones {
    const nowMs = now.getTime();
    if (this.#zones === undefined) return this.ofPage(undefined).isOpen(nowMs) ? 'all' : NOBODY;
    return this.#zones.filter((zone) => this.ofPage(zone).isOpen(nowMs));
  }
}

/** Undefined: the run may send at any time. */
export function hoursOf(run: RunDoc): RunHours | undefined {
  const { window } = run.limits;
  return window === undefined ? undefined : new RunHours(window, run.zones);
}
