/**
 * For all test files: one server, a replica set of one on a temporary directory that is removed at the end, and the worker
 * processes' scripts.
 */
import type { TestProject } from 'vitest/node';
import { startMongods } from './mongods.ts';
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
  const mongods = await startMongods();
  project.provide('mongoUri', mongods.uri);
  return async () => {
    workers.remove();
    await mongods.stop();
  };
}
