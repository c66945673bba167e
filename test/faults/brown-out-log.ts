/** What the workers of the brown-out test write down, all into one file, in the order in which it happened. */
import { existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import type { SchedulerOptions } from '../../src/index.ts';

export interface BrownOutOrder {
  readonly kind: 'start';
  readonly uri: string;
  readonly logFile: string;
  readonly smtp: string;
  readonly options: Partial<SchedulerOptions>;
}

export interface Line {
  readonly kind: 'begin' | 'end' | 'opened' | 'half-open' | 'closed';
  readonly pid: number;
  readonly what?: 'send' | 'verify';
  readonly openings?: number;
  readonly detail?: string;
}

export function lineWriter(file: string): (line: Omit<Line, 'pid'>) => void {
  const descriptor = openSync(file, 'a');
  return (line) => void writeSync(descriptor, `${JSON.stringify({ ...line, pid: process.pid })}\n`);
}

export function readLines(file: string, from = 0): Line[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .slice(from)
    .map((line) => JSON.parse(line) as Line);
}

/** The most that was under way at once between the first probe and the closing, of what began in between. */
export function mostProbesAtOnce(lines: readonly Line[]): number {
  const from = lines.findIndex(({ kind }) => kind === 'half-open');
  const to = lines.findIndex(({ kind }) => kind === 'closed');
  let most = 0;
  const under = new Map<number, number>();
  for (const { kind, pid } of lines.slice(from, to)) {
    if (kind === 'begin') under.set(pid, (under.get(pid) ?? 0) + 1);
    // What was under way before ends as well.
    if (kind === 'end') under.set(pid, Math.max(0, (under.get(pid) ?? 0) - 1));
    most = Math.max(
      most,
      [...under.values()].reduce((sum, count) => sum + count, 0),
    );
  }
  return most;
}
