/**
 * One mongod as a child process: launch it, wait until it answers, hear its last words. It runs in a session of its own,
 * so that Ctrl-C in a terminal reaches the app only, which then finishes its work with the database still up. A small
 * guard process holds a pipe to the app and ends the mongod as soon as the app is gone, however it died.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { MongoClient } from 'mongodb';

/** What mongod exits with when another one has its directory, or when something else has its port. */
export const EXIT_DIRECTORY_HELD = 100;
export const EXIT_PORT_TAKEN = 48;

export interface MongodProcess {
  readonly pid: number;
  readonly port: number;
  /** Set once it has ended: the exit code, or the signal that ended it. */
  ended(): number | string | undefined;
  /** Resolves once it has ended; waiting for it keeps this process alive, unlike the mongod itself. */
  untilEnded(): Promise<number | string>;
  kill(signal: NodeJS.Signals): void;
  /** The last error it has logged since this launch, or the first line that is no log entry: why it ended. */
  lastWords(): string;
}

export interface MongodLaunch {
  readonly binary: string;
  readonly dataDir: string;
  readonly port: number;
  /** Name of the replica set it is a member of; without it, a standalone. */
  readonly replicaSet?: string | undefined;
  readonly args?: readonly string[] | undefined;
}

export const logFile = (dataDir: string): string => join(dataDir, 'mongod.log');

/** Throws when the operating system cannot run the binary at all. */
export async function launchMongod(launch: MongodLaunch): Promise<MongodProcess> {
  const args = [
    '--dbpath',
    launch.dataDir,
    '--port',
    String(launch.port),
    '--bind_ip',
    '127.0.0.1',
    '--quiet',
  ];
  args.push('--setParameter', 'diagnosticDataCollectionEnabled=false');
  if (launch.replicaSet !== undefined) args.push('--replSet', launch.replicaSet);
  args.push(...(launch.args ?? []));
  const log = openSync(logFile(launch.dataDir), 'a');
  const logStart = fstatSync(log).size;
  let child: ChildProcess;
  try {
    child = spawn(launch.binary, args, { stdio: ['ignore', log, log], detached: true, windowsHide: true });
  } finally {
    closeSync(log);
  }
  let ended: number | string | undefined;
  const end = new Promise<number | string>((resolve) => {
    child.once('exit', (code, signal) => {
      ended = code ?? signal ?? 'unknown';
      resolve(ended);
    });
  });
  await once(child, 'spawn');
  child.unref();
  return {
    pid: child.pid as number,
    port: launch.port,
    ended: () => ended,
    untilEnded: () => {
      if (ended === undefined) child.ref();
      return end;
    },
    kill: (signal) => void child.kill(signal),
    lastWords: () => lastWords(launch.dataDir, logStart),
  };
}

const GUARD = `
const pid = Number(process.argv[1]);
const send = (signal) => { try { process.kill(pid, signal); } catch { process.exit(); } };
process.stdin.resume().on('error', () => {}).on('close', () => {
  let checks = 0;
  send('SIGTERM');
  setInterval(() => { checks += 1; if (checks > 120) process.exit(); send(checks > 100 ? 'SIGKILL' : 0); }, 100);
});`;

/** Ends the process `pid` when this process is gone; the returned function dismisses the guard. */
export function guard(pid: number): () => void {
  const child = spawn(process.execPath, ['-e', GUARD, String(pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    windowsHide: true,
    env: {},
  });
  child.on('error', () => {});
  child.stdin.on('error', () => {});
  child.unref();
  return () => void child.kill('SIGKILL');
}

/** A direct connection to one server, whatever its state in a replica set. */
export function directClient(port: number): MongoClient {
  return new MongoClient(`mongodb://127.0.0.1:${port}/?directConnection=true`, {
    serverSelectionTimeoutMS: 3_000,
    connectTimeoutMS: 3_000,
    socketTimeoutMS: 10_000,
  });
}

/**
 * Resolves with a connected client when the server on `port` answers and is the process `pid` (the port might belong to
 * something else). `undefined` when `givenUp()` became true first.
 */
export async function untilAnswering(
  pid: number,
  port: number,
  givenUp: () => boolean,
): Promise<MongoClient | undefined> {
  while (!givenUp()) {
    if (await isOpen(port)) {
      const client = directClient(port);
      try {
        const status = await client
          .db('admin')
          .command({ serverStatus: 1, repl: 0, metrics: 0, wiredTiger: 0 });
        if (Number(status.pid) === pid) return client;
      } catch {
        // Not answering yet; ask again.
      }
      await client.close();
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return undefined;
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, timeout: 1_000 });
    const settle = (open: boolean): void => {
      socket.destroy();
      resolve(open);
    };
    socket.once('connect', () => settle(true));
    socket.once('error', () => settle(false));
    socket.once('timeout', () => settle(false));
  });
}

/** The port given when nothing listens on it, otherwise (or for 0) any free one. */
export async function freePort(wanted = 0): Promise<number> {
  const server = createServer();
  try {
    server.listen({ host: '127.0.0.1', port: wanted });
    await once(server, 'listening');
    return (server.address() as { port: number }).port;
  } catch {
    return freePort();
  } finally {
    server.close();
  }
}

function lastWords(dataDir: string, logStart: number): string {
  const lines = readFileSync(logFile(dataDir)).subarray(logStart).toString().split('\n').filter(Boolean);
  const isError = (line: string): boolean => /^[EF]$/.test(parseEntry(line)?.s ?? '');
  const entry = parseEntry(lines.findLast(isError) ?? '');
  if (entry !== undefined) return `${entry.msg} ${entry.attr?.error ?? ''}`.trim();
  return lines.find((line) => parseEntry(line) === undefined) ?? 'its log names no error';
}

function parseEntry(line: string): { s?: string; msg?: string; attr?: { error?: unknown } } | undefined {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
