/** The mail server that the example and the crash tests count with: its count must be right before it proves anything. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { compare } from '../../examples/books.ts';
import { startSink, stopSink } from '../../examples/sink-process.ts';
import { PATIENCE } from '../engine/provider.ts';
import { openTally } from '../support/smtp-sink-tally.ts';
import { context, failureOf, mail, messenger } from './mail.ts';

async function directory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'smtp-sink-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

describe('the tally', () => {
  test('counts ids, and again after it was opened anew', async () => {
    const file = join(await directory(), 'sub', 'tally');
    const first = openTally(file);
    for (const id of ['a@x', 'b@x', 'a@x']) first.add(id);
    expect(first.counts()).toEqual({ unique: 2, duplicates: 1, total: 3 });
    first.close();
    const second = openTally(file);
    second.add('b@x');
    second.add('c@x');
    expect(second.counts()).toEqual({ unique: 3, duplicates: 2, total: 5 });
    second.close();
  });
});

describe('the process', () => {
  test('is found again, restarts with its count, and ends when told', async () => {
    const dataDir = await directory();
    onTestFinished(() => stopSink(dataDir));
    const first = await startSink(dataDir, 0);
    const email = messenger({ url: first.url });
    await email.send(mail({ key: 'one' }), context);
    await email.send(mail({ key: 'two' }), context);
    await email.send(mail({ key: 'two' }), context);
    const failure = await failureOf(email.send(mail({ to: 'bounce.1@example.org' }), context));
    expect(failure).toMatchObject({ kind: 'permanent', code: '550' });
    expect(await first.tally()).toEqual({ unique: 2, duplicates: 1, total: 3 });

    const again = await startSink(dataDir, 0);
    expect(again).toMatchObject({ pid: first.pid, url: first.url, reused: true });

    process.kill(first.pid, 'SIGKILL');
    await expect.poll(() => first.tally().catch(() => 'gone'), PATIENCE).toBe('gone');
    const restarted = await startSink(dataDir, 0);
    expect(restarted.reused).toBe(false);
    expect(restarted.pid).not.toBe(first.pid);
    await messenger({ url: restarted.url }).send(mail({ key: 'three' }), context);
    expect(await restarted.tally()).toEqual({ unique: 3, duplicates: 1, total: 4 });

    await restarted.stop();
    await expect(restarted.tally()).rejects.toThrow();
    await restarted.stop();
  });
});

describe('books and mail server', () => {
  const books = { total: 10, sent: 7, failed: 2, skipped: 0, unknown: 1 };
  test.each([
    ['all sent ones came', { unique: 7, duplicates: 0, total: 7 }, true],
    ['the unknown one came too', { unique: 8, duplicates: 0, total: 8 }, true],
    ['a sent one is missing', { unique: 6, duplicates: 0, total: 6 }, false],
    ['one too many', { unique: 9, duplicates: 0, total: 9 }, false],
    ['one twice', { unique: 7, duplicates: 1, total: 8 }, false],
  ])('%s', (_name, tally, agree) => {
    expect(compare(books, tally).agree).toBe(agree);
  });

  test('books that do not close never agree', () => {
    expect(compare({ ...books, total: 11 }, { unique: 7, duplicates: 0, total: 7 }).agree).toBe(false);
  });
});
