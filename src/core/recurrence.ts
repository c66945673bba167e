/**
 * When a recurring campaign occurs. Pure: a checked rule and instants in, instants out. Invariant: the occurrences of a
 * rule are one strictly increasing row of nominal instants from its anchor on, the same on every machine and from
 * whatever point one asks; jitter never changes them.
 */
import { Cron } from 'croner';
import { cronOf, LAST_INSTANT_MS, type Recurrence } from './recurrence-rule.ts';
import { type FirstWallTime, firstInstant, stretchAt, wallTimeAt } from './wall-clock.ts';
import { weekdayOfDay } from './weekdays.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const UNIT_MS = {
  seconds: SECOND_MS,
  minutes: MINUTE_MS,
  hours: 3_600_000,
  days: DAY_MS,
  weeks: 7 * DAY_MS,
} as const;

/** A rule made ready for searching; kept as long as the rule object lives, since parsing takes longer than searching. */
interface Compiled {
  /** First instant of the pattern in a span, both ends inclusive, before `end` and `exclude` are looked at. */
  readonly first: (fromMs: number, untilMs: number) => number | null;
  /** Length of a step where all occurrences are equally far apart and none is excluded. */
  readonly stepMs: number | undefined;
  readonly isExcluded: ((wallDay: number) => boolean) | undefined;
}

/** A span eight times as long as one without an occurrence rarely holds more. */
const STEPS_FORWARD = 8;

const compiledRules = new WeakMap<Recurrence, Compiled>();

/** The first occurrence strictly after an instant; `null` when the rule has ended. `maxRuns` is for the caller to count. */
export function nextOccurrence(rule: Recurrence, after: Date): Date | null {
  return asDate(firstFrom(rule, after.getTime() + 1));
}

/** The last occurrence strictly before an instant; `null` when there is none since the anchor. */
export function previousOccurrence(rule: Recurrence, before: Date): Date | null {
  return asDate(lastUntil(rule, before.getTime() - 1));
}

export interface Occurrences {
  readonly occurrences: Date[];
  /** There are more than the limit. */
  readonly more: boolean;
}

/** Occurrences from `from` (inclusive) to `to` (exclusive), at most `limit`. */
export function occurrencesBetween(rule: Recurrence, from: Date, to: Date, limit: number): Occurrences {
  const occurrences: Date[] = [];
  const untilMs = to.getTime() - 1;
  for (
    let at = firstFrom(rule, from.getTime(), untilMs);
    at !== null;
    at = firstFrom(rule, at + 1, untilMs)
  ) {
    if (occurrences.length >= limit) return { occurrences, more: true };
    occurrences.push(new Date(at));
  }
  return { occurrences, more: false };
}

export interface OccurrenceCount {
  /** Exact, even where it is more than the limit; `limit` when `atLeast` is true. */
  readonly count: number;
  /** There are more than the limit; they were counted one by one, and counting stopped there. */
  readonly atLeast: boolean;
}

/**
 * How many occurrences there are from `from` (inclusive) to `to` (exclusive). There are too many when `atLeast` is true or
 * `count` is more than `limit`: it never looks at more than `limit` + 1 of them, and only at the first where arithmetic tells.
 */
export function countOccurrences(rule: Recurrence, from: Date, to: Date, limit: number): OccurrenceCount {
  const untilMs = to.getTime() - 1;
  const { stepMs } = compiled(rule);
  if (stepMs !== undefined) {
    const first = firstFrom(rule, from.getTime(), untilMs);
    if (first === null) return { count: 0, atLeast: false };
    const lastMs = Math.min(untilMs, endOf(rule));
    return { count: Math.floor((lastMs - first) / stepMs) + 1, atLeast: false };
  }
  let count = 0;
  for (
    let at = firstFrom(rule, from.getTime(), untilMs);
    at !== null;
    at = firstFrom(rule, at + 1, untilMs)
  ) {
    if (count >= limit) return { count, atLeast: true };
    count += 1;
  }
  return { count, atLeast: false };
}

/** The next `count` occurrences strictly after an instant, never more than `maxRuns`. */
export function preview(rule: Recurrence, count: number, from: Date): Date[] {
  const most = Math.min(count, rule.maxRuns ?? count);
  return occurrencesBetween(rule, new Date(from.getTime() + 1), new Date(LAST_INSTANT_MS), most).occurrences;
}

/** The key of an occurrence: its nominal instant in UTC, `2026-03-29T07:00:00.000Z`. */
export function occurrenceKey(nominal: Date): string {
  return nominal.toISOString();
}

/**
 * How long after its nominal instant every occurrence starts, from 0 to `jitterMs`. It depends on `key` alone (the
 * campaign's id), so that occurrences keep their order and distance, and every worker computes the same.
 */
export function jitterOf(rule: Recurrence, key: string): number {
  return rule.jitterMs === 0 ? 0 : hashOf(key) % (rule.jitterMs + 1);
}

/** First instant of the bare pattern (without `end` and `exclude`) from the anchor to an instant, or `null`. */
export function firstOfPattern(rule: Recurrence, untilMs: number): Date | null {
  const anchorMs = rule.anchor.getTime();
  return asDate(compiled(rule).first(anchorMs, untilMs));
}

/** First occurrence from `fromMs` to `untilMs`, both inclusive. */
function firstFrom(rule: Recurrence, fromMs: number, untilMs = LAST_INSTANT_MS): number | null {
  const { first, isExcluded } = compiled(rule);
  const lastMs = Math.min(untilMs, endOf(rule));
  let cursorMs = Math.max(fromMs, rule.anchor.getTime());
  while (cursorMs <= lastMs) {
    const found = first(cursorMs, lastMs);
    if (found === null || isExcluded === undefined) return found;
    const { offsetMs, endMs } = stretchAt(rule.timezone, found);
    const day = Math.floor((found + offsetMs) / DAY_MS);
    if (!isExcluded(day)) return found;
    // A rule of every second must not be walked through a whole excluded day.
    cursorMs = Math.min(endMs, (day + 1) * DAY_MS - offsetMs);
  }
  return null;
}

/**
 * Last occurrence until `untilMs`, inclusive. Mostly a few steps forward from the first in a short span before it; by halving
 * where the span holds many, so that years of seconds take some 40 steps.
 */
function lastUntil(rule: Recurrence, untilMs: number): number | null {
  const anchorMs = rule.anchor.getTime();
  const topMs = Math.min(untilMs, endOf(rule));
  let found: number | null = null;
  for (let widthMs = MINUTE_MS; found === null; widthMs *= 8) {
    const fromMs = Math.max(anchorMs, topMs - widthMs);
    found = firstFrom(rule, fromMs, topMs);
    if (fromMs === anchorMs) break;
  }
  if (found === null) return null;
  for (let steps = 0; steps < STEPS_FORWARD; steps += 1) {
    const later = firstFrom(rule, found + 1, topMs);
    if (later === null) return found;
    found = later;
  }
  // An occurrence is at `found`, and none is after `high`.
  let high = topMs;
  while (found < high) {
    const middle: number = Math.ceil((found + high) / 2);
    const later = firstFrom(rule, middle, high);
    if (later === null) high = middle - 1;
    else found = later;
  }
  return found;
}

function endOf(rule: Recurrence): number {
  return Math.min(rule.end?.getTime() ?? LAST_INSTANT_MS, LAST_INSTANT_MS);
}

function compiled(rule: Recurrence): Compiled {
  const known = compiledRules.get(rule);
  if (known !== undefined) return known;
  const isExcluded = exclusionOf(rule);
  const stepMs = elapsedStepOf(rule);
  const anchorMs = rule.anchor.getTime();
  let first: Compiled['first'];
  if (stepMs !== undefined) {
    first = (fromMs, untilMs) => {
      const at = anchorMs + Math.max(0, Math.ceil((fromMs - anchorMs) / stepMs)) * stepMs;
      return at <= untilMs ? at : null;
    };
  } else {
    const firstWall = wallTimesOf(rule);
    first = (fromMs, untilMs) => firstInstant(firstWall, rule.timezone, rule.dst, fromMs, untilMs);
  }
  const made = { first, stepMs: isExcluded === undefined ? stepMs : undefined, isExcluded };
  compiledRules.set(rule, made);
  return made;
}

function elapsedStepOf({ pattern }: Recurrence): number | undefined {
  if (pattern.kind !== 'every') return undefined;
  const { unit, count } = pattern;
  return unit === 'seconds' || unit === 'minutes' || unit === 'hours' ? count * UNIT_MS[unit] : undefined;
}

function wallTimesOf(rule: Recurrence): FirstWallTime {
  const { pattern } = rule;
  if (pattern.kind !== 'every') return cronWallTimes(cronOf(pattern) ?? '');
  const anchorWall = wallTimeAt(rule.timezone, rule.anchor.getTime());
  if (pattern.unit === 'months') return monthlyWallTimes(anchorWall, pattern.count);
  const stepMs = pattern.count * UNIT_MS[pattern.unit];
  return (wallMs) => anchorWall + Math.max(0, Math.ceil((wallMs - anchorWall) / stepMs)) * stepMs;
}

/** By expression: rules read from the database are new objects each time, and many campaigns share one expression. */
const cronPatterns = new Map<string, FirstWallTime>();
const MAX_CRON_PATTERNS = 1_000;

/** A cron expression on a clock that never jumps: croner runs in UTC, where a wall time is its own instant. */
function cronWallTimes(cron: string): FirstWallTime {
  const known = cronPatterns.get(cron);
  if (known !== undefined) return known;
  if (cronPatterns.size >= MAX_CRON_PATTERNS) cronPatterns.clear();
  const pattern = parsedCron(cron);
  cronPatterns.set(cron, pattern);
  return pattern;
}

function parsedCron(cron: string): FirstWallTime {
  const job = new Cron(cron, { mode: '5-or-6-parts', utcOffset: 0 });
  return (wallMs) => {
    const secondBefore = Math.ceil(wallMs / SECOND_MS) * SECOND_MS - SECOND_MS;
    return job.nextRun(new Date(secondBefore))?.getTime() ?? null;
  };
}

/** Always counted from the anchor, so that a short month does not pull all later ones to its own last day. */
function monthlyWallTimes(anchorWall: number, count: number): FirstWallTime {
  const anchor = new Date(anchorWall);
  const anchorMonth = anchor.getUTCFullYear() * 12 + anchor.getUTCMonth();
  const timeMs = anchorWall - Math.floor(anchorWall / DAY_MS) * DAY_MS;
  const occurrence = (step: number): number => {
    const month = anchorMonth + step * count;
    const year = Math.floor(month / 12);
    const lastDay = new Date(Date.UTC(year, (month % 12) + 1, 0)).getUTCDate();
    return Date.UTC(year, month % 12, Math.min(anchor.getUTCDate(), lastDay)) + timeMs;
  };
  return (wallMs) => {
    const wall = new Date(wallMs);
    const months = wall.getUTCFullYear() * 12 + wall.getUTCMonth() - anchorMonth;
    let step = Math.max(0, Math.floor(months / count));
    while (occurrence(step) < wallMs) step += 1;
    return occurrence(step);
  };
}

function exclusionOf({ exclude }: Recurrence): ((wallDay: number) => boolean) | undefined {
  if (exclude.dates.length === 0 && exclude.weekdays.length === 0) return undefined;
  const days = new Set(exclude.dates.map((date) => Date.parse(`${date}T00:00:00Z`) / DAY_MS));
  const weekdays = new Set(exclude.weekdays);
  return (wallDay) => days.has(wallDay) || weekdays.has(weekdayOfDay(wallDay));
}

/** FNV-1a over UTF-16 units with a last mixing, so that ids that differ in one letter spread evenly. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function asDate(atMs: number | null): Date | null {
  return atMs === null ? null : new Date(atMs);
}
