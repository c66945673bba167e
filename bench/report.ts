/** What a scenario says: one line a figure, with the number that is aimed at. Printed as it comes, summed up at the end. */

export interface Figure {
  readonly what: string;
  readonly value: string;
  /** What is aimed at, in words; absent: for comparison only. */
  readonly aim?: string;
  /** Met or not; absent where there is no aim. */
  readonly met?: boolean;
}

export const perSecond = (count: number, ms: number): number => Math.round((count / ms) * 1000);
export const thousands = (value: number): string => Math.round(value).toLocaleString('en-US');

export function figure(what: string, value: string, aim?: string, met?: boolean): void {
  const line: Figure = {
    what,
    value,
    ...(aim === undefined ? {} : { aim }),
    ...(met === undefined ? {} : { met }),
  };
  process.send?.(line);
}

/** The middle of a few runs. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
