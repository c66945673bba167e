import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  decideHolder,
  holderOf,
  isOwnerAlive,
  readRecord,
  thisProcess,
  writeRecord,
} from '../../src/embedded/holder.ts';

const directory = mkdtempSync(join(tmpdir(), 'campaign-scheduler-holder-'));
afterAll(() => rmSync(directory, { recursive: true }));

const record = { port: 1, replicaSet: true, mongodPid: 7, owner: { pid: 1, startedAt: 'x' } };

describe('decideHolder', () => {
  it.each([
    ['nobody has it', { holderPid: undefined, record, ownerAlive: true, waitedMs: 0 }, 'free'],
    ['a living app has it', { holderPid: 7, record, ownerAlive: true, waitedMs: 0 }, 'share'],
    ['a dead app left it', { holderPid: 7, record, ownerAlive: false, waitedMs: 0 }, 'replace'],
    ['one is starting', { holderPid: 8, record, ownerAlive: true, waitedMs: 0 }, 'wait'],
    ['a stranger has it', { holderPid: 8, record: undefined, ownerAlive: false, waitedMs: 10_000 }, 'refuse'],
    [
      'a stranger has it, old record',
      { holderPid: 8, record, ownerAlive: false, waitedMs: 10_000 },
      'refuse',
    ],
  ] as const)('%s', (_name, seen, decision) => {
    expect(decideHolder(seen)).toBe(decision);
  });
});

describe('the files of the directory', () => {
  it('does not take a process with the same id for the mongod', () => {
    writeFileSync(join(directory, 'mongod.lock'), `${process.pid}\n`);
    expect(holderOf(directory)).toBeUndefined();
  });

  it.each(['', 'garbage', '-1', '999999999'])('a lock file with %j names nobody', (text) => {
    writeFileSync(join(directory, 'mongod.lock'), text);
    expect(holderOf(directory)).toBeUndefined();
  });

  it('a record is read back, a damaged one is none', async () => {
    await writeRecord(directory, record);
    expect(readRecord(directory)).toEqual(record);
    for (const damaged of ['', '{"port":1', 'null', '{"port":"1"}']) {
      writeFileSync(join(directory, 'embedded.json'), damaged);
      expect(readRecord(directory)).toBeUndefined();
    }
  });

  it('an owner is known by its id and its start time', () => {
    expect(isOwnerAlive({ ...record, owner: thisProcess() })).toBe(true);
    expect(isOwnerAlive({ ...record, owner: { pid: process.pid, startedAt: 'earlier' } })).toBe(false);
  });
});
