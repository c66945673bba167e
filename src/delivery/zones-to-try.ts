/**
 * In which zones of a run a free page may be found. A claim asks for a few zones at a time, since each of them costs a key
 * of the index, and those where none was found rest for a while. Invariant: a zone is never left out for longer than that.
 */
import type { Clock } from '../clock.ts';

const ZONES_PER_CLAIM = 8;
const REST_MS = 10_000;

export class ZonesToTry {
  readonly #clock: Clock;
  readonly #emptySince = new Map<string, number>();
  #rounds = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The open zones in which a page may be free, as many at a time as one claim asks for. */
  *groups(open: readonly string[]): Generator<readonly string[]> {
    const now = this.#clock.monotonic();
    const maybe = open.filter(
      (zone) => now - (this.#emptySince.get(zone) ?? Number.NEGATIVE_INFINITY) > REST_MS,
    );
    const groups = Array.from({ length: Math.ceil(maybe.length / ZONES_PER_CLAIM) }, (_, group) =>
      maybe.slice(group * ZONES_PER_CLAIM, (group + 1) * ZONES_PER_CLAIM),
    );
    this.#rounds += 1; // each claim begins with other zones, or the first ones would come before all others
    for (let index = 0; index < groups.length; index += 1) {
      yield groups[(index + this.#rounds) % groups.length] ?? [];
    }
  }

  foundNone(zones: readonly string[]): void {
    const now = this.#clock.monotonic();
    for (const zone of zones) this.#emptySince.set(zone, now);
  }

  /** A look at all pages found free ones in these. */
  foundIn(zones: readonly string[]): void {
    for (const zone of zones) this.#emptySince.delete(zone);
  }
}
