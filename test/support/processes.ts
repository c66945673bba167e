/**
 * Worker processes of a test: scripts that talk by messages `{ kind, … }`, and that a test kills or freezes. Invariant: no
 * worker survives its test file. After the last test all are killed by their id, and a worker whose test process is gone
 * ends by itself.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';

export interface Message {
  readonly kind: string;
  readonly [field: string]: unknown;
}

export interface WorkerExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Worker {
  readonly pid: number;
  /** Everything it has said so far. */
  readonly messages: readonly Message[];
  readonly exit: Promise<WorkerExit>;
  stderr(): string;
  send(message: Message): void;
  /** The next message of this kind that no `next` has given out yet; rejects when the worker exits or `timeoutMs` (100 s) passes. */
  next(kind: string, timeoutMs?: number): Promise<Message>;
  /** Sends the signal (default SIGKILL) and resolves when it has exited. */
  kill(signal?: NodeJS.Signals): Promise<WorkerExit>;
  /** SIGSTOP. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const TESTS = join(ROOT, 'test');
const END_WITH_PARENT = 'data:text/javascript,process.on("disconnect",()=>process.exit(1))';
const children = new Set<ChildProcess>();

/** Kills all that live, and waits for their end. */
export async function killWorkers(): Promise<void> {
  const exits = [...children].map((child) => new Promise((resolve) => child.once('exit', resolve)));
  for (const child of children) child.kill('SIGKILL');
  await Promise.all(exits);
}

/** `script`: `new URL('./worker.ts', import.meta.url)`. */
export function startWorker(
  script: URL,
  options: { args?: readonly string[]; env?: NodeJS.ProcessEnv } = {},
): Worker {
  const { file, execArgv } = programOf(script);
  const child = fork(file, options.args ?? [], {
    cwd: ROOT,
    env: { ...process.env, ...options.env },
    execArgv: [...execArgv, '--import', END_WITH_PARENT],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    serialization: 'advanced',
  });
  children.add(child);
  let stderr = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-20_000);
    });
  }
  const messages: Message[] = [];
  const given = new Set<Message>();
  const listeners = new Set<() => void>();
  const notify = (): void => {
    for (const listener of listeners) listener();
  };
  child.on('message', (message) => {
    messages.push(message as unknown as Message);
    notify();
  });
  let exited: WorkerExit | undefined;
  const exit = new Promise<WorkerExit>((resolve) => {
    // `close`, not `exit`: by then everything it has said has been read.
    child.once('close', (code, signal) => {
      children.delete(child);
      exited = { code, signal };
      resolve(exited);
      notify();
    });
  });
  return {
    pid: child.pid as number,
    messages,
    exit,
    stderr: () => stderr,
    send: (message) => void child.send(message),
    next: (kind, timeoutMs = 100_000) =>
      new Promise((resolve, reject) => {
        const settle = (finish: () => void): void => {
          clearTimeout(timer);
          listeners.delete(look);
          finish();
        };
        const fail = (why: string): void =>
          settle(() => reject(new Error(`no message \`${kind}\` from the worker: ${why}\n${stderr}`)));
        const look = (): void => {
          const found = messages.find((message) => message.kind === kind && !given.has(message));
          if (found !== undefined) {
            given.add(found);
            settle(() => resolve(found));
          } else if (exited !== undefined) fail(`it exited with ${exited.code ?? exited.signal}`);
        };
        const timer = setTimeout(() => fail(`not within ${timeoutMs} ms`), timeoutMs);
        listeners.add(look);
        look();
      }),
    kill: (signal = 'SIGKILL') => {
      child.kill(signal);
      return exit;
    },
    freeze: () => void child.kill('SIGSTOP'),
    thaw: () => void child.kill('SIGCONT'),
  };
}

/** A script of the tests runs as the global setup has bundled it, any other as its reader runs it. */
function programOf(script: URL): { file: string; execArgv: readonly string[] } {
  const file = fileURLToPath(script);
  const path = relative(TESTS, file);
  if (path.startsWith('..')) return { file, execArgv: ['--import', 'tsx'] };
  return {
    file: join(inject('workersFolder'), path.replace(/\.ts$/, '.js')),
    execArgv: ['--enable-source-maps'],
  };
}
