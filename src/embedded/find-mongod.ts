/**
 * Finds a mongod that runs here. The ways are tried in order and each is proven by `mongod --version`; what none of them
 * gives ends in one error that names every way and why it failed. A binary named by hand is the only way tried: to run
 * another one, perhaps of a newer version, on the user's data behind his back would be worse than an error.
 */
import { execFile } from 'node:child_process';
import { delimiter, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { CampaignSchedulerError } from '../errors.ts';
import { viaMemoryServer } from './memory-server.ts';

/** One way to a binary: gives a path to try, or throws with the reason why there is none. */
export interface MongodWay {
  readonly name: string;
  path(): string | Promise<string>;
}

/** Where a binary is looked for by default. */
export function standardWays(binary?: string): MongodWay[] {
  if (binary !== undefined) return [named('option `binary`', binary)];
  const fromEnvironment = process.env.MONGOMS_SYSTEM_BINARY;
  if (fromEnvironment) return [named('MONGOMS_SYSTEM_BINARY', fromEnvironment)];
  return [
    { name: 'MONGOMS_SYSTEM_BINARY', path: () => fail('not set') },
    { name: 'mongod on PATH', path: onPath },
    { name: 'mongodb-memory-server-core', path: viaMemoryServer },
  ];
}

export async function findMongod(ways: readonly MongodWay[]): Promise<string> {
  const failures: { way: string; reason: string }[] = [];
  for (const way of ways) {
    try {
      const path = await way.path();
      await proveThatItRuns(path);
      return path;
    } catch (error) {
      failures.push({ way: way.name, reason: firstLine(error) });
    }
  }
  const list = failures.map(({ way, reason }) => `  - ${way}: ${reason}`).join('\n');
  throw new CampaignSchedulerError(
    'mongod_unavailable',
    `No mongod that runs on this machine was found:\n${list}`,
    {
      details: { failures },
    },
  );
}

function named(name: string, path: string): MongodWay {
  return { name: `${name} (${path})`, path: () => resolve(path) };
}

async function onPath(): Promise<string> {
  const file = process.platform === 'win32' ? 'mongod.exe' : 'mongod';
  let failure: unknown = new Error('not found');
  for (const directory of (process.env.PATH ?? '').split(delimiter).filter(Boolean)) {
    try {
      await proveThatItRuns(join(directory, file));
      return join(directory, file);
    } catch (error) {
      if ((error as Error).message !== NO_SUCH_FILE) failure = error;
    }
  }
  throw failure;
}

const NO_SUCH_FILE = 'no such file';

async function proveThatItRuns(path: string): Promise<void> {
  try {
    const { stdout } = await promisify(execFile)(path, ['--version'], { timeout: 10_000, windowsHide: true });
    if (!/db version/i.test(stdout)) fail('it is not a mongod: `--version` prints no `db version`');
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string };
    if (code === 'ENOENT' || code === 'ENOTDIR') fail(NO_SUCH_FILE);
    if (code === 'EACCES') fail('not executable');
    if (stderr) fail(stderr);
    throw error;
  }
}

function fail(reason: string): never {
  throw new Error(reason);
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.trim().split('\n')[0] ?? text;
}
