/** The books of a campaign beside the count of the mail server, and whether they agree. */

import type { SinkState } from './smtp-sink.ts';

export interface Books {
  readonly total: number;
  readonly sent: number;
  readonly failed: number;
  readonly skipped: number;
  readonly unknown: number;
}

export interface Comparison {
  readonly agree: boolean;
  /** Why not, or what is left to know. */
  readonly words: string;
}

/** Every sent one has arrived, nobody has got two, and whatever else arrived is among the unknown ones. */
export function compare(books: Books, tally: SinkState['tally']): Comparison {
  const { total, sent, failed, skipped, unknown } = books;
  const faults = [
    sent + failed + skipped + unknown === total ? '' : 'the books do not close',
    tally.duplicates === 0 ? '' : `${number(tally.duplicates)} arrived a second time`,
    tally.unique >= sent ? '' : `${number(sent - tally.unique)} booked as sent never arrived`,
    tally.unique <= sent + unknown
      ? ''
      : `${number(tally.unique - sent - unknown)} arrived that nobody booked`,
  ].filter((fault) => fault !== '');
  if (faults.length > 0) return { agree: false, words: `They do not agree: ${faults.join(', ')}.` };
  if (unknown === 0) return { agree: true, words: 'They agree.' };
  return {
    agree: true,
    words:
      `They agree. ${number(unknown)} are unknown: the process died between handing them over and writing it down. ` +
      `${number(tally.unique - sent)} of them did arrive. They are listed, and nobody is sent to twice unasked.`,
  };
}

/** Both side by side, for people. */
export function table(books: Books, tally: SinkState['tally']): string {
  const rows: Array<[string, number, string]> = [
    ['sent', books.sent, `${number(tally.unique)} different messages`],
    ['failed', books.failed, ''],
    ['skipped', books.skipped, ''],
    ['unknown', books.unknown, `${number(tally.duplicates)} that came twice`],
    ['total', books.total, `${number(tally.total)} in all`],
  ];
  const line = (name: string, left: string, right: string) =>
    `  ${name.padEnd(10)}${left.padStart(12)}    ${right}`;
  return [
    line('', 'books', 'mail server'),
    ...rows.map(([name, left, right]) => line(name, number(left), right).trimEnd()),
  ].join('\n');
}

export function number(value: number): string {
  return value.toLocaleString('en-US');
}
