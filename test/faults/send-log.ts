/**
 * The messenger's own log: one line per hand-over, in a file that survives whatever becomes of the worker. Invariant: a
 * line is in the file before `send` goes on, in one write of O_APPEND, so that a kill leaves it whole or not at all.
 */
import { existsSync, openSync, readFileSync, writeSync } from 'node:fs';

export interface HandOver {
  /** `accept`: the provider took the message. `refuse`: it had a permanent verdict. `kill`: this process ends itself here. */
  readonly kind: 'accept' | 'refuse' | 'kill';
  readonly pid: number;
  /** Counts the lines of one process. */
  readonly n: number;
  readonly campaignId?: string;
  readonly runId?: string;
  readonly recipientId?: string;
  readonly key?: string;
  readonly attempt?: number;
  /** Of a kill: the step at which it happened. */
  readonly step?: string;
}

export type Appender = (entry: Omit<HandOver, 'pid' | 'n'>) => void;

export function appendTo(file: string): Appender {
  const descriptor = openSync(file, 'a');
  let n = 0;
  return (entry) => {
    n += 1;
    writeSync(descriptor, `${JSON.stringify({ ...entry, pid: process.pid, n })}\n`);
  };
}

export function readLog(file: string): HandOver[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as HandOver);
}

/** The messages a provider took, of one campaign. */
export function accepted(file: string, campaignId: string): HandOver[] {
  return readLog(file).filter((entry) => entry.kind === 'accept' && entry.campaignId === campaignId);
}
