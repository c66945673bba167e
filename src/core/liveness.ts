/**
 * Who is dead? Decided by watching, never by comparing clocks: a holder is dead when this watcher has seen the same claim
 * with the same number for the holder's own time, by the watcher's monotonic clock. Pure; the caller brings the time.
 */

export interface Sighting {
  readonly key: string;
  readonly token: string;
  readonly seq: number;
  /** How long this holder may be silent, ms: its own setting, not the watcher's. */
  readonly ttlMs: number;
}

interface Seen {
  readonly token: string;
  readonly seq: number;
  /** How long it has certainly been silent. */
  readonly silentMs: number;
}

export class Watch {
  #seen = new Map<string, Seen>();
  #answeredAtMs = 0;

  /**
   * Takes one complete, successful look: asked for at one time, answered at another. Returns those that have been silent
   * for too long. What counts is the time from each answer to the asking for the next look, the least that it can have
   * been: while the database hangs nobody can write, so nobody is to blame. One gap counts for half of the holder's time at
   * the most: whoever watches may have been stopped itself, and the holder with it.
   */
  look(sightings: readonly Sighting[], askedAtMs: number, answeredAtMs = askedAtMs): Sighting[] {
    const seen = new Map<string, Seen>();
    const dead: Sighting[] = [];
    for (const sighting of sightings) {
      const { key, token, seq, ttlMs } = sighting;
      const before = this.#seen.get(key);
      const same = before?.token === token && before.seq === seq;
      const gapMs = Math.min(ttlMs / 2, askedAtMs - this.#answeredAtMs);
      const silentMs = same ? before.silentMs + gapMs : 0;
      seen.set(key, { token, seq, silentMs });
      if (silentMs >= ttlMs) dead.push(sighting);
    }
    this.#seen = seen;
    this.#answeredAtMs = answeredAtMs;
    return dead;
  }

  /** A look failed: what was seen before proves nothing any more, so that after an outage holders can write first. */
  forget(): void {
    this.#seen.clear();
  }
}
