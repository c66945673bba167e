/** One server for all test files: a replica set of one, on a temporary directory that is removed at the end. */
import type { TestProject } from 'vitest/node';
import { startMongods } from './mongods.ts';

declare module 'vitest' {
  interface ProvidedContext {
    mongoUri: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const mongods = await startMongods();
  project.provide('mongoUri', mongods.uri);
  return () => mongods.stop();
}
