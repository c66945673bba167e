/**
 * For all test files: one server, a replica set of one on a temporary directory that is removed at the end, and the worker
 * processes' scripts.
 */
import { statfs } from 'node:fs/promises';
import { freemem, tmpdir } from 'node:os';
import type { TestProject } from 'vitest/node';
import { removeLeftovers } from './leftovers.ts';
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
  removeLeftovers(SHARED_MEMORY, FOLDER_PREFIX);
  const { bavail, bsize } = await statfs(SHARED_MEMORY).catch(() => ({ bavail: 0, bsize: 0 }));
  return Math.min(bavail * bsize, freemem()) > ROOM_BYTES ? SHARED_MEMORY : tmpdir();
}
