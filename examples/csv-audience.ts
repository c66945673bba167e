/** An audience from a CSV file, read as a stream: a file of any length needs the memory of a few rows. */

import { createReadStream } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'csv-parse';

const DIRECTORY = fileURLToPath(new URL('./data/', import.meta.url));

/** `params` is `{ file }`, the name of a file in `examples/data`. Columns `id` and `email`; the others become `vars`. */
export async function* csvAudience(
  params: unknown,
): AsyncGenerator<{ id: string; to: string; vars: Record<string, string> }> {
  const { file } = params as { file: string };
  const rows = createReadStream(join(DIRECTORY, basename(file))).pipe(parse({ columns: true, bom: true }));
  for await (const row of rows) {
    const { id, email, ...vars } = row as Record<string, string>;
    yield { id: id ?? '', to: email ?? '', vars };
  }
}
