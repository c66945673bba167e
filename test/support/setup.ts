/**
 * Runs before each test file. Files share processes and their modules, so a hook at the top of a module would be one of
 * the first file only that imports it: hooks for every file stand here, all others in functions that a file calls.
 */
import { afterAll } from 'vitest';
import { killWorkers } from './processes.ts';

afterAll(killWorkers);
