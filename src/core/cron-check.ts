/**
 * What is wrong with a cron expression, in the words of the field that is wrong. croner's own messages count from zero
 * and do not always name the field, so each field is tried alone.
 */
import { Cron } from 'croner';
import { expectation, shown } from './expectation.ts';

/** The name of each field, and what may stand in it beside `*`, lists, ranges and steps. */
const FIELDS = [
  ['second', '0 to 59'],
  ['minute', '0 to 59'],
  ['hour', '0 to 23'],
  ['day of month', '1 to 31, `L`, `LW` or a day with `W`'],
  ['month', '1 to 12 or JAN to DEC'],
  ['weekday', '0 to 7 or SUN to SAT (`#1` to `#5` for the nth, `#L` for the last)'],
] as const;

const SHAPE =
  '5 fields (minute hour day-of-month month weekday) or 6 with seconds first, such as `0 9 * * MON-FRI`';
const NICKNAMES = ['@hourly', '@daily', '@midnight', '@weekly', '@monthly', '@yearly', '@annually'];
const MAX_LENGTH = 200;

export type CheckedCron =
  /** With single spaces and no others. */
  | { readonly cron: string; readonly problem?: undefined }
  | { readonly problem: string; readonly cron?: undefined };

/** Whether the expression can be read; whether it ever matches is another question. */
export function checkCron(value: unknown, path: string): CheckedCron {
  if (typeof value !== 'string' || value.length > MAX_LENGTH || value.trim() === '') {
    return { problem: expectation(path, SHAPE, value) };
  }
  const cron = value.trim().replace(/\s+/g, ' ');
  if (cron.startsWith('@')) {
    if (NICKNAMES.includes(cron.toLowerCase())) return { cron: cron.toLowerCase() };
    return { problem: expectation(path, `${SHAPE}, or one of ${NICKNAMES.join(', ')}`, value) };
  }
  const fields = cron.split(' ');
  if (fields.length !== 5 && fields.length !== 6) {
    const count = fields.length === 1 ? '1 field' : `${fields.length} fields`;
    return { problem: `Expected \`${path}\` to be ${SHAPE}, got ${count} in ${shown(value)}` };
  }
  const names = FIELDS.slice(-fields.length);
  for (const [index, [name, range]] of names.entries()) {
    const field = fields[index] ?? '';
    const alone = names.map((_, other) => (other === index ? field : '*')).join(' ');
    if (isReadable(alone)) continue;
    const what = `${range}, or \`*\`, lists, ranges and steps of these`;
    return {
      problem: `Expected the ${name} of \`${path}\` to be ${what}, got \`${field}\` in ${shown(value)}`,
    };
  }
  return isReadable(cron) ? { cron } : { problem: expectation(path, SHAPE, value) };
}

function isReadable(cron: string): boolean {
  try {
    new Cron(cron, { mode: '5-or-6-parts', utcOffset: 0 });
    return true;
  } catch {
    return false;
  }
}
