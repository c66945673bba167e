/**
 * Chance that can be repeated: everything a fault round draws comes from one seed, printed by the test. The processes
 * and the server still race freely, so a seed repeats what was tried, not every interleaving of it.
 */

export interface Chance {
  /** From 0 up to 1. */
  fraction(): number;
  /** A whole number, both ends included. */
  between(least: number, most: number): number;
  pick<T>(choices: readonly T[]): T;
  /** True in so many of 100 cases. */
  percent(share: number): boolean;
}

/** Mulberry32: small, and good enough to draw plans with. */
export function chance(seed: number): Chance {
  let state = seed >>> 0;
  const fraction = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const between = (least: number, most: number): number =>
    least + Math.floor(fraction() * (most - least + 1));
  return {
    fraction,
    between,
    pick: (choices) => choices[between(0, choices.length - 1)] as (typeof choices)[number],
    percent: (share) => fraction() * 100 < share,
  };
}
