/**
 * What many failures have in common: their reasons without what differs from recipient to recipient. Pure. Invariant: a
 * normalised reason holds no number, address, id or quoted text; the number of groups is bounded, and every failure is
 * counted in exactly one of them or among the others.
 */
import { cutUtf8 } from './retry.ts';

/** What is longer is cut before it is looked at. */
const MAX_LOOKED_AT = 2_000;
const MAX_BYTES = 200;
export const MAX_GROUPS = 1_000;

/** In this order: what is found first may hold what is found later. */
const DIFFERS: readonly (readonly [RegExp, string])[] = [
  [/[a-z][a-z0-9+.-]{1,20}:\/\/[^\s"'<>]+/giu, '<url>'],
  [/<?[^\s<>"'`,;:()]+@[^\s<>"'`,;:()]+>?/gu, '<address>'],
  [/"[^"]*"|`[^`]*`|“[^”]*”|«[^»]*»|(?<![\p{L}\p{N}])'[^']*'(?![\p{L}\p{N}])/gu, '<text>'],
  [/\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b/giu, '<id>'],
  [/\[?\b(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{0,4}\b\]?/giu, '<ip>'],
  [/\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b/gu, '<ip>'],
  // A word of letters and digits, however they are joined: a queue id, a token, a hash.
  [/(?<![\p{L}\p{N}<])(?=[\p{L}_-]*\p{N})(?=[\p{N}_-]*\p{L})[\p{L}\p{N}_-]{6,}/gu, '<id>'],
  [/[+-]?\p{N}+(?:[.,:]\p{N}+)*/gu, '<n>'],
  [/\s+/gu, ' '],
];

/** `User ann@x.org unknown (id 7f3a…)` becomes `User <address> unknown (id <id>)`. Twice is the same as once. */
export function normalizedReason(reason: string): string {
  let text = reason.slice(0, MAX_LOOKED_AT);
  for (let before = ''; before !== text; ) {
    before = text;
    for (const [pattern, placeholder] of DIFFERS) text = text.replace(pattern, placeholder);
  }
  return cutUtf8(text.trim(), MAX_BYTES).trim();
}

export interface Failure {
  readonly state: 'failed' | 'unknown';
  readonly code: string | undefined;
  readonly reason: string | undefined;
  /** Ms since the epoch. */
  readonly at: number;
}

export interface FailureGroup<Place> {
  readonly state: Failure['state'];
  readonly code: string | null;
  /** Normalised; null: none was given. */
  readonly reason: string | null;
  count: number;
  firstAt: number;
  lastAt: number;
  /** Where the first of them are, and what was said of them. */
  readonly samples: { readonly place: Place; readonly reason: string | null }[];
}

/** Groups failures one by one. `Place` says where a recipient is found. */
export class FailureGroups<Place> {
  readonly #groups = new Map<string, FailureGroup<Place>>();
  readonly #samples: number;
  /** All of them, also those that found no group because there were too many. */
  total = 0;

  /** `samples` of each group. */
  constructor(samples: number) {
    this.#samples = samples;
  }

  add(failure: Failure, place: Place): void {
    const { state, at } = failure;
    const code = failure.code ?? null;
    const reason = failure.reason ?? null;
    this.total += 1;
    const pattern = reason === null ? null : normalizedReason(reason);
    const key = JSON.stringify([state, code, pattern]);
    let group = this.#groups.get(key);
    if (group === undefined) {
      if (this.#groups.size >= MAX_GROUPS) return;
      group = { state, code, reason: pattern, count: 0, firstAt: at, lastAt: at, samples: [] };
      this.#groups.set(key, group);
    }
    group.count += 1;
    group.firstAt = Math.min(group.firstAt, at);
    group.lastAt = Math.max(group.lastAt, at);
    if (group.samples.length < this.#samples) group.samples.push({ place, reason });
  }

  /** The largest first. */
  largest(limit: number): FailureGroup<Place>[] {
    return [...this.#groups.values()]
      .sort((a, b) => b.count - a.count || b.lastAt - a.lastAt)
      .slice(0, limit);
  }
}
