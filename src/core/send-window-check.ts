/**
 * What a send window is, and the check of one that somebody passed in. Invariant: a window that comes out of the check is
 * plain data with every default filled in, can be stored as it is, and opens again and again.
 */

import { expectation, type Problem, unknownKeyMessage } from './expectation.ts';
import { dateProblems } from './instant.ts';
import { isPlainObject } from './plain-data.ts';
import { isTimeZone } from './recipient.ts';
import { WEEKDAYS, type Weekday } from './weekdays.ts';

/** When messages may leave, as people give it. */
export interface SendWindowInput {
  /** Days on which a window begins. Default: all seven. */
  readonly days?: readonly Weekday[] | undefined;
  /** Wall time at which it opens, `HH:MM` from `00:00` to `23:59`. */
  readonly from: string;
  /**
   * Wall time at which it closes, `HH:MM` up to `24:00`; no message begins at that minute or later. Earlier than `from`
   * means the next day: the night belongs to the day on which the window began. The same as `from` is refused, because
   * some mean nothing by it and others a whole day; a whole day is `00:00` to `24:00`.
   */
  readonly to: string;
  /** IANA zone of the wall clock, for example `Europe/Paris`, or `recipient`: each recipient's own zone. */
  readonly timezone: string;
  /** With `timezone: 'recipient'`, which needs it: the zone of recipients who have none. */
  readonly fallbackTimezone?: string | undefined;
  /** Dates of the wall clock, `YYYY-MM-DD`, on which no window begins; at most 500. Default: none. */
  readonly holidays?: readonly string[] | undefined;
}

/** A checked window. */
export interface SendWindow {
  /** In the order of the week, each once, at least one. */
  readonly days: readonly Weekday[];
  readonly from: string;
  readonly to: string;
  readonly timezone: string;
  /** There if and only if `timezone` is `recipient`. */
  readonly fallbackTimezone?: string;
  /** In order, each once. */
  readonly holidays: readonly string[];
}

export type CheckedSendWindow =
  | { readonly window: SendWindow; readonly problems?: undefined }
  | { readonly problems: readonly Problem[]; readonly window?: undefined };

/** Value of `timezone` for each recipient's own zone. */
export const RECIPIENT_ZONE = 'recipient';
/** Most holidays of one window. */
export const MAX_HOLIDAYS = 500;

const KEYS = ['days', 'from', 'to', 'timezone', 'fallbackTimezone', 'holidays'];
const TIME = /^(?:[01]\d|2[0-3]):[0-5]\d$/;
const FROM = 'a wall time `HH:MM` from `00:00` to `23:59`';
const TO = 'a wall time `HH:MM` from `00:00` to `24:00`';
const ZONE = 'an IANA time zone such as `Europe/Paris`';

/**
 * Checks a window and fills in its defaults. Never throws for wrong data; finds every problem at once.
 *
 * @param path where the window is in what people passed in, for the messages. Default: `window`.
 */
export function checkSendWindow(input: unknown, path = 'window'): CheckedSendWindow {
  if (!isPlainObject(input)) {
    return {
      problems: [{ path, message: expectation(path, 'an object with from, to and timezone', input) }],
    };
  }
  const problems: Problem[] = [];
  const expect = (fits: boolean, field: string, what: string, value: unknown): void => {
    if (fits) return;
    const full = `${path}.${field}`;
    problems.push({ path: full, message: expectation(full, what, value) });
  };
  const { days = WEEKDAYS, from, to, timezone, fallbackTimezone, holidays = [] } = input;

  checkDays(days, expect);
  const fromFits = isTime(from);
  const toFits = isTime(to) || to === '24:00';
  expect(fromFits, 'from', FROM, from);
  expect(toFits, 'to', TO, to);
  const bothFit = fromFits && toFits;
  expect(!bothFit || from !== to, 'to', 'another time than `from` (a whole day is `00:00` to `24:00`)', to);
  const ofRecipient = timezone === RECIPIENT_ZONE;
  expect(ofRecipient || isZone(timezone), 'timezone', `${ZONE}, or \`${RECIPIENT_ZONE}\``, timezone);
  if (ofRecipient) {
    const what = `${ZONE}, for recipients without one`;
    expect(isZone(fallbackTimezone), 'fallbackTimezone', what, fallbackTimezone);
  } else {
    const what = `left out unless \`timezone\` is \`${RECIPIENT_ZONE}\``;
    expect(fallbackTimezone === undefined, 'fallbackTimezone', what, fallbackTimezone);
  }
  problems.push(...dateProblems(`${path}.holidays`, holidays, MAX_HOLIDAYS));
  for (const key of Object.keys(input)) {
    if (KEYS.includes(key)) continue;
    const full = `${path}.${key.slice(0, 80)}`;
    problems.push({ path: full, message: unknownKeyMessage(full, KEYS) });
  }
  if (problems.length > 0) return { problems };

  return {
    window: {
      days: WEEKDAYS.filter((day) => (days as readonly unknown[]).includes(day)),
      from: from as string,
      to: to as string,
      timezone: timezone as string,
      ...(ofRecipient ? { fallbackTimezone: fallbackTimezone as string } : {}),
      holidays: [...new Set(holidays as string[])].sort(),
    },
  };
}

type Expect = (fits: boolean, field: string, what: string, value: unknown) => void;

function checkDays(days: unknown, expect: Expect): void {
  const fits = Array.isArray(days) && days.length <= WEEKDAYS.length;
  expect(fits, 'days', 'an array of at most 7 names of weekdays', days);
  if (!fits) return;
  if (days.length === 0) {
    expect(false, 'days', 'at least one weekday, or left out for all (the window would never open)', days);
  }
  for (const [index, day] of days.entries()) {
    expect(WEEKDAYS.includes(day), `days[${index}]`, `one of ${WEEKDAYS.join(', ')}`, day);
  }
}

function isTime(value: unknown): boolean {
  return typeof value === 'string' && TIME.test(value);
}

function isZone(value: unknown): boolean {
  return typeof value === 'string' && isTimeZone(value);
}
