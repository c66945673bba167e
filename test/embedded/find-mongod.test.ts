import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ensureMongod } from '../../scripts/mongod.ts';
import { findMongod, standardWays } from '../../src/embedded/find-mongod.ts';
import { startEmbeddedMongo } from '../../src/embedded/index.ts';
import { CampaignSchedulerError } from '../../src/errors.ts';

const mongod = await ensureMongod();
const directory = mkdtempSync(join(tmpdir(), 'campaign-scheduler-find-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** A machine without a mongod and without a way to download one: nothing answers on port 1. */
beforeEach(() => {
  vi.stubEnv('MONGOMS_SYSTEM_BINARY', '');
  vi.stubEnv('PATH', directory);
  vi.stubEnv('HOME', directory);
  vi.stubEnv('MONGOMS_DOWNLOAD_DIR', directory);
  vi.stubEnv('MONGOMS_DOWNLOAD_MIRROR', 'https://127.0.0.1:1');
});
afterEach(() => {
  vi.unstubAllEnvs();
});

function script(name: string, text: string, mode = 0o755): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

async function refusal(promise: Promise<unknown>): Promise<CampaignSchedulerError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CampaignSchedulerError);
  expect((error as CampaignSchedulerError).code).toBe('mongod_unavailable');
  return error as CampaignSchedulerError;
}

describe('without any mongod', () => {
  it('fails soon, silently, with one error that names every way', async () => {
    const print = vi.spyOn(console, 'log');
    const warn = vi.spyOn(console, 'warn');
    const start = performance.now();
    const error = await refusal(startEmbeddedMongo({ dataDir: join(directory, 'data') }));
    expect(performance.now() - start).toBeLessThan(20_000);
    expect(error.message).toContain('MONGOMS_SYSTEM_BINARY: not set');
    expect(error.message).toContain('mongod on PATH: not found');
    expect(error.message).toMatch(/mongodb-memory-server-core: .*ECONNREFUSED/);
    expect(error.details.failures).toHaveLength(3);
    expect(print).not.toHaveBeenCalled();
    expect(warn).not.toHaveBeenCalled();
  });

  it('the repository adds its own ways', async () => {
    vi.stubEnv('MONGOMS_SYSTEM_BINARY', join(directory, 'none'));
    expect((await refusal(ensureMongod())).details.failures).toHaveLength(1);
  });
});

describe('a binary named by hand is the only one tried', () => {
  it.each([
    ['missing', () => join(directory, 'missing'), 'no such file'],
    ['not executable', () => script('plain', 'text', 0o644), 'not executable'],
    ['another program', () => script('other', '#!/bin/sh\necho hello'), 'it is not a mongod'],
    [
      'lacking a library',
      () => script('broken', '#!/bin/sh\necho "libcrypto.so.3: missing" >&2; exit 127'),
      'libcrypto',
    ],
  ])('%s', async (_name, path, reason) => {
    const error = await refusal(startEmbeddedMongo({ dataDir: join(directory, 'data'), binary: path() }));
    expect(error.message).toContain('option `binary`');
    expect(error.message).toContain(reason);
    expect(error.details.failures).toHaveLength(1);
  });
});

describe('order', () => {
  it('the environment goes before PATH', async () => {
    vi.stubEnv('MONGOMS_SYSTEM_BINARY', mongod);
    expect(await findMongod(standardWays())).toBe(mongod);
  });

  it('PATH goes before a download, and a broken one on PATH is passed over', async () => {
    script('mongod', '#!/bin/sh\nexit 1');
    vi.stubEnv('PATH', `${directory}:${dirname(mongod)}`);
    expect(await findMongod(standardWays())).toBe(join(dirname(mongod), 'mongod'));
  });
});
