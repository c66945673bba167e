/**
 * The slow truth for the tests of send windows: the wall clock of a zone, read from the runtime's calendar minute by
 * minute, and what a window makes of it. It shares no code with what it is compared to.
 */
import type { SendWindow } from '../../src/core/send-window-check.ts';
import { WEEKDAYS } from '../../src/core/weekdays.ts';
import { MINUTE_MS, piecesOf } from './intl-wall-clock.ts';

const DAY_MINUTES = 1_440;

export interface WallScan {
  readonly zone: string;
  /** Instant of the first minute. */
  readonly startMs: number;
  /** What the clock shows at each minute, in minutes since the epoch as UTC would count them. */
  readonly wall: readonly number[];
}

export function scanWall(zone: string, start: string, days: number): WallScan {
  const startMs = Date.parse(start);
  const endMs = startMs + days * DAY_MINUTES * MINUTE_MS;
  const wall: number[] = [];
  for (const piece of piecesOf(zone, startMs, endMs)) {
    for (let at = piece.startMs; at < Math.min(piece.endMs, endMs); at += MINUTE_MS)
      wall.push((at + piece.offsetMs) / MINUTE_MS);
  }
  return { zone, startMs, wall };
}

/** First and last minute (not included) of a span, as indexes into the scan. */
export type MinuteSpan = readonly [begin: number, end: number];

/**
 * The spans of a window within the scan: for every day that begins one, from the first to the last minute that its part
 * of the wall clock holds; those that touch are one. Spans at the edge of the scan may be cut off.
 */
export function scanWindow(window: SendWindow, { wall }: WallScan): MinuteSpan[] {
  const from = minuteOf(window.from);
  const to = minuteOf(window.to) + (window.to <= window.from ? DAY_MINUTES : 0);
  const spans = new Map<number, [number, number]>();
  for (const [index, shown] of wall.entries()) {
    const today = Math.floor(shown / DAY_MINUTES);
    for (const day of [today - 1, today]) {
      const minute = shown - day * DAY_MINUTES;
      if (minute < from || minute >= to || !begins(window, day)) continue;
      const span = spans.get(day);
      if (span === undefined) spans.set(day, [index, index + 1]);
      else span[1] = index + 1;
    }
  }
  const open = new Array<boolean>(wall.length).fill(false);
  for (const [begin, end] of spans.values()) open.fill(true, begin, end);
  return runsOf(open);
}

function runsOf(open: readonly boolean[]): MinuteSpan[] {
  const runs: [number, number][] = [];
  for (const [index, isOpen] of open.entries()) {
    const last = runs.at(-1);
    if (!isOpen) continue;
    if (last?.[1] === index) last[1] = index + 1;
    else runs.push([index, index + 1]);
  }
  return runs;
}

function begins(window: SendWindow, day: number): boolean {
  const date = new Date(day * DAY_MINUTES * MINUTE_MS);
  const weekday = WEEKDAYS[(date.getUTCDay() + 6) % 7];
  return (
    weekday !== undefined &&
    window.days.includes(weekday) &&
    !window.holidays.includes(date.toISOString().slice(0, 10))
  );
}

function minuteOf(time: string): number {
  return Number(time.slice(0, 2)) * 60 + Number(time.slice(3));
}
