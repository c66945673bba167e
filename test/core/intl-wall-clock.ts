/** What the clock of a zone shows, by the runtime's own calendar: the slow truth that shares no code with the package. */

export const MINUTE_MS = 60_000;

const formats = new Map<string, Intl.DateTimeFormat>();

/** The wall clock at an instant, as UTC would count it. To the second. */
export function intlWallTime(zone: string, atMs: number): number {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
    formats.set(zone, format);
  }
  const numbers = format.format(atMs).match(/\d+/g)?.map(Number) ?? [];
  const [month = 0, day = 0, year = 0, hour = 0, minute = 0, second = 0] = numbers;
  return Date.UTC(year, month - 1, day, hour, minute, second);
}

export interface Piece {
  readonly startMs: number;
  readonly endMs: number;
  readonly offsetMs: number;
}

const HOUR_MS = 3_600_000;

/** Offsets over a span, looked at every hour, and every minute where they change. */
export function piecesOf(zone: string, fromMs: number, toMs: number): Piece[] {
  const offset = (atMs: number): number => intlWallTime(zone, atMs) - atMs;
  const pieces: Piece[] = [];
  let startMs = fromMs;
  let offsetMs = offset(fromMs);
  for (let hour = fromMs; hour < toMs; hour += HOUR_MS) {
    if (offset(hour + HOUR_MS) === offsetMs) continue;
    let change = hour;
    while (offset(change) === offsetMs) change += MINUTE_MS;
    pieces.push({ startMs, endMs: change, offsetMs });
    startMs = change;
    offsetMs = offset(change);
  }
  pieces.push({ startMs, endMs: toMs + HOUR_MS, offsetMs });
  return pieces;
}
