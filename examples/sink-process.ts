/**
 * Starts the example's mail server as a process of its own, or finds the one that an earlier, killed start has left.
 * Invariant: one server and one tally file for a data directory; only a process that proves to be ours is ended.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { SinkState } from './smtp-sink.ts';

export interface SinkProcess {
  /** `smtp://127.0.0.1:port`. */
  readonly url: string;
  readonly pid: number;
  /** True when an earlier start had left it running. */
  readonly reused: boolean;
  tally(): Promise<SinkState['tally']>;
  /** Ends the process; resolves when it is gone. Its tally file stays. */
  stop(): Promise<void>;
}

const SCRIPT = fileURLToPath(new URL('./smtp-sink.ts', import.meta.url));
const START_MS = 30_000;
const STOP_MS = 5_000;

export async function startSink(dataDir: string, delayMs: number): Promise<SinkProcess> {
  const earlier = await findSink(dataDir);
  if (earlier !== undefined) return handleOf(earlier, true);
  mkdirSync(dataDir, { recursive: true });
  const log = openSync(join(dataDir, 'smtp-sink.log'), 'a');
  const args = ['--tally', join(dataDir, 'smtp-sink.tally'), '--state', stateFile(dataDir)];
  const child = spawn(process.execPath, ['--import', 'tsx', SCRIPT, ...args, '--delay', String(delayMs)], {
    // A group of its own, so that neither Ctrl-C nor the death of this process reaches it.
    detached: true,
    stdio: ['ignore', 'ignore', log, 'ipc'],
  });
  closeSync(log);
  const started = await Promise.race([
    once(child, 'message') as Promise<[SinkState]>,
    once(child, 'exit').then(() => undefined),
    sleep(START_MS, undefined, { ref: false }),
  ]);
  if (started === undefined) {
    child.kill('SIGKILL');
    throw new Error(`the mail server of the example did not start; see ${join(dataDir, 'smtp-sink.log')}`);
  }
  child.disconnect();
  child.unref();
  return handleOf(started[0], false);
}

/** The server of this data directory, when it is running. */
async function findSink(dataDir: string): Promise<SinkState | undefined> {
  try {
    const written = JSON.parse(readFileSync(stateFile(dataDir), 'utf8')) as SinkState;
    const answered = await ask(written.controlPort);
    return answered.pid === written.pid ? answered : undefined;
  } catch {
    return undefined;
  }
}

/** Ends the server of this data directory, when it is running. */
export async function stopSink(dataDir: string): Promise<void> {
  const found = await findSink(dataDir);
  if (found !== undefined) await handleOf(found, true).stop();
}

function handleOf(state: SinkState, reused: boolean): SinkProcess {
  return {
    url: `smtp://127.0.0.1:${state.smtpPort}`,
    pid: state.pid,
    reused,
    tally: async () => (await ask(state.controlPort)).tally,
    stop: async () => {
      // Only now is it certain that this process id is still the server's.
      const alive = await ask(state.controlPort).catch(() => undefined);
      if (alive?.pid !== state.pid) return;
      process.kill(state.pid, 'SIGTERM');
      for (let waitedMs = 0; isAlive(state.pid); waitedMs += 20) {
        if (waitedMs === STOP_MS) process.kill(state.pid, 'SIGKILL');
        await sleep(20);
      }
    },
  };
}

async function ask(controlPort: number): Promise<SinkState> {
  const response = await fetch(`http://127.0.0.1:${controlPort}/`, { signal: AbortSignal.timeout(5_000) });
  return (await response.json()) as SinkState;
}

function stateFile(dataDir: string): string {
  return join(dataDir, 'smtp-sink.json');
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
