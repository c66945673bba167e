/**
 * Every `worker.ts` and `*-worker.ts` below test/ as JavaScript, with all that it imports: a process then starts in a fifth
 * of the time, and the tests start hundreds. Invariant: each run of the tests has a folder of its own; what a killed run
 * has left goes when the next one begins.
 */
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { removeLeftovers } from './leftovers.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const FOLDERS = join(ROOT, '.cache/workers');

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

export interface WorkerBundles {
  /** Laid out as test/. */
  readonly folder: string;
  build(): Promise<void>;
  remove(): void;
}

export function workerBundles(): WorkerBundles {
  const folder = join(FOLDERS, String(process.pid));
  return {
    folder,
    build: async () => {
      mkdirSync(folder, { recursive: true });
      removeLeftovers(FOLDERS);
      await build({
        absWorkingDir: ROOT,
        entryPoints: ['./test/**/*worker.ts'],
        outbase: 'test',
        outdir: folder,
        chunkNames: 'chunks/[hash]',
        bundle: true,
        splitting: true,
        sourcemap: 'linked',
        sourcesContent: false,
        platform: 'node',
        format: 'esm',
        external: ABSENT,
        logLevel: 'error',
        banner: {
          js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
        },
      });
      // The package reads its version from `../package.json`.
      copyFileSync(join(ROOT, 'package.json'), join(folder, 'package.json'));
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
