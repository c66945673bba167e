/**
 * The mongod that `mongodb-memory-server-core` has downloaded or can download. Asked in a process of its own, because it
 * writes to the console, reads its settings from the environment and retries failed downloads for a quarter of a minute:
 * here it is silent, tries once, and is given up when it shows no progress.
 */
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const ASK = `
const { MongoBinary } = (await import(process.argv[1])).default;
try { process.send({ path: await MongoBinary.getPath() }, () => process.exit()); }
catch (error) { process.send({ reason: String(error?.message ?? error) }, () => process.exit()); }`;

/** Before the first byte arrives, and between bytes (unpacking a server shows no progress either). */
const NO_ANSWER_MS = 15_000;
const NO_PROGRESS_MS = 60_000;

export async function viaMemoryServer(): Promise<string> {
  const module = locate();
  const child = spawn(process.execPath, ['--input-type=module', '-e', ASK, module], {
    stdio: ['ignore', 'pipe', 'ignore', 'ipc'],
    env: { ...process.env, MONGOMS_MAX_RETRIES: '1', NODE_OPTIONS: '' },
    windowsHide: true,
  });
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<string>((resolve, reject) => {
      const giveUpAfter = (ms: number): void => {
        clearTimeout(timer);
        timer = setTimeout(() => reject(new Error(`the download made no progress for ${ms / 1000} s`)), ms);
      };
      giveUpAfter(NO_ANSWER_MS);
      child.stdout?.on('data', () => giveUpAfter(NO_PROGRESS_MS));
      child.once('message', (answer: { path?: string; reason?: string }) => {
        if (answer.path !== undefined) resolve(answer.path);
        else reject(new Error(oneLine(answer.reason ?? 'unknown')));
      });
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`it ended with code ${code} and no answer`)));
    });
  } finally {
    clearTimeout(timer);
    child.kill('SIGKILL');
  }
}

function locate(): string {
  try {
    return pathToFileURL(createRequire(import.meta.url).resolve('mongodb-memory-server-core')).href;
  } catch {
    throw new Error('not installed; `npm install mongodb-memory-server-core` lets it download a server');
  }
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ');
}
