/**
 * For all test files: one server, a replica set of one on a temporary directory that is removed at the end, and the worker
 * processes' scripts.
 */
import { readdir, rm, statfs } from 'node:fs/promises';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { processInfo } from '../../src/process-info.ts';
import { FOLDER_PREFIX, startMongods } from './mongods.ts';
import { workerBundles } from './worker-bundles.ts';

declare module 'vitest' {
  interface ProvidedContext {
    mongoUri: string;
    workersFolder: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const workers = workerBundles();
  await workers.build();
  project.onTestsRerun(workers.build);
  project.provide('workersFolder', workers.folder);
  const mongods = await startMongods({ parent: await quickFolder() });
  project.provide('mongoUri', mongods.uri);
  return async () => {
    workers.remove();
    await mongods.stop();
  };
}

const SHARED_MEMORY = '/dev/shm';
const ROOM_BYTES = 4 * 1024 ** 3;

/** Files in memory outlive the death of a process like those on a disk, and nobody waits for them. */
async function quickFolder(): Promise<string> {
  await sweep();
  const { bavail, bsize } = await statfs(SHARED_MEMORY).catch(() => ({ bavail: 0, bsize: 0 }));
  return Math.min(bavail * bsize, freemem()) > ROOM_BYTES ? SHARED_MEMORY : tmpdir();
}

/** Takes away what runs that were killed have left in memory. */
async function sweep(): Promise<void> {
  for (const name of await readdir(SHARED_MEMORY).catch(() => [])) {
    const [prefix, pid] = [name.slice(0, FOLDER_PREFIX.length), name.slice(FOLDER_PREFIX.length)];
    if (prefix !== FOLDER_PREFIX || processInfo(Number.parseInt(pid, 10)) !== undefined) continue;
    await rm(join(SHARED_MEMORY, name), { recursive: true, force: true });
  }
}
