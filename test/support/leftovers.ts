/** What runs of the tests that were killed have left behind, in folders named by the id of the process that made them. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { processInfo } from '../../src/process-info.ts';

/** Removes the folders in `parent` called `prefix`, the id of a process that has ended, and perhaps more. */
export function removeLeftovers(parent: string, prefix = ''): void {
  if (!existsSync(parent)) return;
  for (const name of readdirSync(parent)) {
    const pid = name.startsWith(prefix) ? Number.parseInt(name.slice(prefix.length), 10) : Number.NaN;
    if (Number.isNaN(pid) || processInfo(pid) !== undefined) continue;
    rmSync(join(parent, name), { recursive: true, force: true });
  }
}
