/**
 * Counts messages by their Message-ID in a file that only grows, so that the count outlives the process that counts.
 * Invariant: an id is in the file before its message is acknowledged; a message that was acknowledged is never missing.
 */

import { closeSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

export interface TallyCounts {
  /** Different ids. */
  readonly unique: number;
  /** Messages whose id had come before. */
  readonly duplicates: number;
  /** All messages. */
  readonly total: number;
}

export interface Tally {
  add(messageId: string): void;
  counts(): TallyCounts;
  close(): void;
}

/** Opens the file, made when missing with its directory, and counts what is in it. */
export function openTally(file: string): Tally {
  mkdirSync(dirname(file), { recursive: true });
  const descriptor = openSync(file, 'a+');
  const ids = new Set<string>();
  let total = 0;
  const count = (messageId: string) => {
    ids.add(messageId);
    total += 1;
  };
  for (const line of readFileSync(file, 'utf8').split('\n')) if (line !== '') count(line);
  return {
    add: (messageId) => {
      writeSync(descriptor, `${messageId.replaceAll('\n', ' ')}\n`);
      count(messageId);
    },
    counts: () => ({ unique: ids.size, duplicates: total - ids.size, total }),
    close: () => closeSync(descriptor),
  };
}
