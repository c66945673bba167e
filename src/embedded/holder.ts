/**
 * Answers one question: who has this data directory? Two files tell: `mongod.lock`, which a running mongod keeps locked
 * and marked with its process id, and `embedded.json`, which the app writes once its mongod answers. Invariant: a mongod
 * is replaced only when this package started it and the app that did so is dead; any other one is never touched.
 */
import { readFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { processInfo } from '../process-info.ts';

export interface ServerRecord {
  readonly port: number;
  readonly replicaSet: boolean;
  readonly mongodPid: number;
  /** The app that started it. */
  readonly owner: { readonly pid: number; readonly startedAt: string };
}

export type HolderDecision = 'free' | 'share' | 'replace' | 'wait' | 'refuse';

/** How long an unexplained mongod may hold the directory: it may be starting for another app, or already ending. */
const UNEXPLAINED_MS = 10_000;

export function decideHolder(seen: {
  holderPid: number | undefined;
  record: ServerRecord | undefined;
  ownerAlive: boolean;
  waitedMs: number;
}): HolderDecision {
  if (seen.holderPid === undefined) return 'free';
  if (seen.record?.mongodPid === seen.holderPid) return seen.ownerAlive ? 'share' : 'replace';
  return seen.waitedMs < UNEXPLAINED_MS ? 'wait' : 'refuse';
}

/** The process id of the mongod that runs on this directory, if one does. */
export function holderOf(dataDir: string): number | undefined {
  const pid = Number(readText(join(dataDir, 'mongod.lock'))?.trim() || Number.NaN);
  if (!Number.isSafeInteger(pid) || pid <= 0) return undefined;
  const info = processInfo(pid);
  if (info === undefined) return undefined;
  const isMongod = basename(info.args[0] ?? 'mongod').startsWith('mongod');
  return isMongod || info.args.includes(dataDir) ? pid : undefined;
}

export function isOwnerAlive(record: ServerRecord): boolean {
  return processInfo(record.owner.pid)?.startedAt === record.owner.startedAt;
}

export function thisProcess(): ServerRecord['owner'] {
  return { pid: process.pid, startedAt: processInfo(process.pid)?.startedAt ?? 'unknown' };
}

/** A missing or damaged record is none: it only costs the remembered port. */
export function readRecord(dataDir: string): ServerRecord | undefined {
  try {
    const value = JSON.parse(readText(join(dataDir, 'embedded.json')) ?? '') as Partial<ServerRecord> | null;
    const whole =
      Number.isInteger(value?.port) &&
      typeof value?.replicaSet === 'boolean' &&
      Number.isInteger(value.mongodPid) &&
      Number.isInteger(value.owner?.pid);
    return whole ? (value as ServerRecord) : undefined;
  } catch {
    return undefined;
  }
}

export async function writeRecord(dataDir: string, record: ServerRecord): Promise<void> {
  const temporary = join(dataDir, `embedded.json.${process.pid}`);
  await writeFile(temporary, `${JSON.stringify(record)}\n`);
  await rename(temporary, join(dataDir, 'embedded.json'));
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
