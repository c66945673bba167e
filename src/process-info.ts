/**
 * Looks at other processes by id. A process id alone proves nothing, because ids are used again (in a container after
 * every restart), so a process is known by its id and its start time. A zombie counts as dead: it holds no file lock.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

export interface ProcessInfo {
  /** When it started, as an opaque text: equal texts for one id mean the same process. */
  readonly startedAt: string;
  readonly args: readonly string[];
}

/** `undefined` when no such process runs. */
export function processInfo(pid: number): ProcessInfo | undefined {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return undefined;
  }
  if (process.platform === 'linux') return fromProc(pid);
  if (process.platform === 'win32') return { startedAt: 'unknown', args: [] };
  return fromPs(pid);
}

/** Is this a process of this machine that has ended? Then its last sign of life, however recent, means nothing. */
export function hasEnded(worker: { host: string; pid: number; processStartedAt: string }): boolean {
  if (worker.host !== hostname()) return false;
  return processInfo(worker.pid)?.startedAt !== worker.processStartedAt;
}

function fromProc(pid: number): ProcessInfo | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').filter(Boolean);
    return { startedAt: fields[19] ?? 'unknown', args };
  } catch {
    return undefined;
  }
}

function fromPs(pid: number): ProcessInfo | undefined {
  try {
    const line = execFileSync('ps', ['-o', 'stat=,lstart=,args=', '-p', String(pid)], { encoding: 'utf8' });
    const [state, ...rest] = line.trim().split(/\s+/);
    if (state === undefined || state.startsWith('Z')) return undefined;
    return { startedAt: rest.slice(0, 5).join(' '), args: rest.slice(5) };
  } catch {
    return undefined;
  }
}

/** Waits until the process is gone; `false` when it is still there after `timeoutMs`. */
export async function untilGone(pid: number, timeoutMs: number): Promise<boolean> {
  const end = performance.now() + timeoutMs;
  while (processInfo(pid) !== undefined) {
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return true;
}

/** Asks the process to end, ends it by force when it has not after `graceMs`, and resolves when it is gone. */
export async function endProcess(pid: number, graceMs: number): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    try {
      process.kill(pid, signal);
    } catch {
      return;
    }
    if (await untilGone(pid, graceMs)) return;
  }
  throw new Error(`process ${pid} could not be ended`);
}
