/**
 * The worker and everything it imports as one file, made anew for each test file. A process then starts in a third of the
 * time, and these tests start hundreds. The bundler is the one that tsx runs on.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll } from 'vitest';

interface Bundler {
  build(options: Readonly<Record<string, unknown>>): Promise<unknown>;
}

/** Optional parts of the driver that are not installed. */
const ABSENT = [
  'kerberos',
  'snappy',
  'aws4',
  'socks',
  'gcp-metadata',
  'mongodb-client-encryption',
  '@mongodb-js/*',
  '@aws-sdk/*',
];

/** Call it once at the top of a test file; the bundle is removed after the file's last test. */
export async function bundledWorker(): Promise<URL> {
  const { resolve } = createRequire(import.meta.url);
  const bundler = createRequire(resolve('tsx'))('esbuild') as Bundler;
  // Directly below a folder of the root: the package reads its version from `../package.json`.
  const folder = fileURLToPath(new URL('../../.cache/', import.meta.url));
  mkdirSync(folder, { recursive: true });
  const file = `${folder}fault-worker-${process.pid}.mjs`;
  await bundler.build({
    entryPoints: [fileURLToPath(new URL('./worker.ts', import.meta.url))],
    outfile: file,
    bundle: true,
    platform: 'node',
    format: 'esm',
    external: ABSENT,
    logLevel: 'error',
    banner: {
      js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
    },
  });
  afterAll(() => rmSync(file, { force: true }));
  return pathToFileURL(file);
}
