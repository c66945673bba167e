/** Audiences of the fault tests: recipients by number, made the same way in every process. */
import type { AudienceRow } from '../../src/index.ts';

export interface RowsParams {
  readonly count: number;
  /** Every so many-th is refused by the provider until it has healed; absent: nobody. */
  readonly refusedEvery?: number;
}

export function row(index: number, vars?: AudienceRow['vars']): AudienceRow {
  return { id: `r${index}`, to: `r${index}@example.org`, ...(vars === undefined ? {} : { vars }) };
}

export function rows({ count, refusedEvery = 0 }: RowsParams): AudienceRow[] {
  return Array.from({ length: count }, (_, index) =>
    row(index, refusedEvery > 0 && index % refusedEvery === 0 ? { refused: true } : undefined),
  );
}

/** As a named source: slow enough that a kill can come between two pages. */
export async function* sourceRows(params: unknown): AsyncGenerator<AudienceRow> {
  for (const [index, each] of rows(params as RowsParams).entries()) {
    if (index % 50 === 0) await new Promise<void>((resolve) => setImmediate(resolve));
    yield each;
  }
}
