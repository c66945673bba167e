/** The version of Agenda that is installed; for people who report what went wrong. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

/** Null where it cannot be found out. */
export function agendaVersion(): string | null {
  try {
    const main = createRequire(import.meta.url).resolve('agenda');
    const { version } = JSON.parse(readFileSync(new URL('../package.json', `file://${main}`), 'utf8')) as {
      version?: unknown;
    };
    return typeof version === 'string' ? version : null;
  } catch {
    return null;
  }
}
