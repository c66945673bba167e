/**
 * One of three workers is blocked by a loop, stopped, or killed, in the middle of a campaign: that is seen, the others take
 * its pages and nobody else's, and nobody is handed over twice. Prints how long it took.
 */
import { writeFileSync } from 'node:fs';
import type { ChangeStreamUpdateDocument, Document } from 'mongodb';
import { expect, it, onTestFinished } from 'vitest';
import type { CampaignScheduler } from '../../src/index.ts';
import { testDatabase } from '../support/mongo.ts';
import type { Worker } from '../support/processes.ts';
import { crew, tell, troubles } from './crew.ts';
import { people, testScheduler, until, untilClosed } from './fixtures.ts';
import { declaredProviders } from './providers.ts';

const { db, uri } = await testDatabase();
const { start, taken, untilTaken, logFile } = crew(uri);

const CONCURRENCY = 5;
/** Workers that share two cores are slow now and then: only a fault may be longer than a claim. */
const OPTIONS = { claimTtlMs: 6_000, sendTimeoutMs: 30_000, workerOfflineAfterMs: 6_000, pageSize: 100 };

interface Rig {
  readonly api: CampaignScheduler;
  readonly id: string;
  readonly idOf: ReadonlyMap<Worker, string>;
}

const claimedBy = (workerId: string | undefined) =>
  db.collection('ledger_pages').find({ status: 'claimed', 'claim.workerId': workerId }).toArray();

async function takenOver({ api, id }: Rig): Promise<string[]> {
  const entries = await api.campaigns.journal(id, 1_000);
  return entries.flatMap(({ kind, detail }) =>
    kind === 'page-taken-over' ? [String(detail?.fromWorkerId)] : [],
  );
}

const stateOf = async ({ api, idOf }: Rig, worker: Worker) =>
  (await api.workers()).find(({ id }) => id === idOf.get(worker));

/** Each one it writes from now on: how late its event loop was stands in one of them only. */
async function heartbeatsOf(workerId = '') {
  const ofWorker = { operationType: 'update', 'documentKey._id': workerId };
  const stream = db
    .collection<{ eventLoopDelayMs: number }>('workers')
    .watch<Document, ChangeStreamUpdateDocument<{ eventLoopDelayMs: number }>>([{ $match: ofWorker }]);
  onTestFinished(() => stream.close());
  await stream.tryNext(); // it looks from here on
  return stream;
}

/** Waits until the others have all that `victim` held, while they go on with their own. Returns how long it took, ms. */
async function strike(rig: Rig, victim: Worker, others: readonly Worker[], fault: () => Promise<void>) {
  const { id, idOf } = rig;
  const before = (await takenOver(rig)).length;
  const full = { 'claim.workerId': idOf.get(victim), 'counts.pending': { $gt: OPTIONS.pageSize / 2 } };
  await until('a page to take', async () => (await db.collection('ledger_pages').countDocuments(full)) > 0);
  await fault();
  const from = performance.now();
  const held = (await claimedBy(idOf.get(victim))).map(({ _id }) => _id);
  expect(held.length).toBeGreaterThan(0);
  const handed = taken(id, victim).length;
  for (const other of others) await untilTaken(id, taken(id, other).length + 1, other);
  const onMs = performance.now() - from;
  const left = async (): Promise<number> =>
    (await claimedBy(idOf.get(victim))).filter(({ _id }) => held.includes(_id)).length;
  await until('its pages with others', async () => (await left()) === 0);
  const pagesMs = performance.now() - from;
  // A journal entry comes after what it tells.
  await until('the journal', async () => (await takenOver(rig)).length >= before + held.length);
  const victims = (await takenOver(rig)).slice(before);
  expect(new Set(victims)).toEqual(new Set([idOf.get(victim)]));
  expect(taken(id, victim)).toHaveLength(handed);
  return { onMs, pagesMs };
}

it('blocked, stopped and killed in turn', async () => {
  const messengers = declaredProviders();
  const api = await testScheduler({ mongo: uri, worker: false, messengers, ...OPTIONS });
  const workers = await Promise.all([1, 2, 3].map(() => start({ options: OPTIONS })));
  const [blocked, stopped, killed] = workers as [Worker, Worker, Worker];
  const idOf = new Map(
    await Promise.all(
      workers.map(async (worker): Promise<[Worker, string]> => {
        const found = (await api.workers()).find(({ pid }) => pid === worker.pid);
        return [worker, found?.id ?? ''];
      }),
    ),
  );
  const { id } = await api.campaigns.create({
    name: 'three workers',
    messenger: 'ambiguous',
    content: {},
    audience: people(30_000), // more than can be sent by the end
    concurrency: CONCURRENCY,
  });
  const rig: Rig = { api, id, idOf };
  const allTakePart = async (): Promise<void> => {
    for (const worker of workers) await untilTaken(id, taken(id, worker).length + CONCURRENCY, worker);
  };
  const figures: string[] = [];
  const note = (what: string, { onMs, pagesMs }: Awaited<ReturnType<typeof strike>>): void => {
    const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
    figures.push(
      `${what}: the others went on after ${seconds(onMs)}, had its pages after ${seconds(pagesMs)}`,
    );
  };

  await allTakePart();
  const end = `${logFile}.unblock`;
  const loop = strike(rig, blocked, [stopped, killed], async () => {
    tell(blocked, { kind: 'block', until: end });
    await blocked.next('blocking');
  });
  note('event loop blocked', await loop);
  await until('that it is offline', async () => (await stateOf(rig, blocked))?.state === 'offline');
  const heartbeats = await heartbeatsOf(idOf.get(blocked));
  writeFileSync(end, '');
  await blocked.next('unblocked');
  for (let delayMs = 0; delayMs < OPTIONS.claimTtlMs / 2; ) {
    const { updateDescription } = await heartbeats.next();
    delayMs = updateDescription.updatedFields?.eventLoopDelayMs ?? 0;
  }
  await until('that it runs', async () => (await stateOf(rig, blocked))?.state === 'running');
  await allTakePart();

  note('SIGSTOP', await strike(rig, stopped, [blocked, killed], async () => stopped.freeze()));
  await until('that it is offline', async () => (await stateOf(rig, stopped))?.state === 'offline');
  expect(await stateOf(rig, stopped)).toMatchObject({ processAlive: true });
  stopped.thaw();
  await allTakePart();

  note('SIGKILL', await strike(rig, killed, [blocked, stopped], async () => void (await killed.kill())));
  expect(await stateOf(rig, killed)).toMatchObject({ processAlive: false });
  process.stdout.write(`${figures.join('\n')}\n`);

  await api.campaigns.cancel(id);
  await untilClosed(api, db, id);
  // Whoever woke up has told what became of its sends; of the killed one nobody knows.
  const handOvers = taken(id);
  expect(new Set(handOvers.map(({ recipientId }) => recipientId)).size).toBe(handOvers.length);
  const report = await api.campaigns.report(id);
  expect(report?.unknown).toBeLessThanOrEqual(3 * 2 * CONCURRENCY);
  expect(handOvers.length).toBeGreaterThanOrEqual(report?.sent ?? 0);
  expect(handOvers.length).toBeLessThanOrEqual((report?.sent ?? 0) + (report?.unknown ?? 0));
  expect(await api.campaigns.audit(id)).toMatchObject({ ok: true });
  expect(new Set(await takenOver(rig))).toEqual(new Set(idOf.values()));
  // The two that stood still saw it themselves when they woke up, and sent nothing before they were heard again.
  const others = troubles(...workers).filter((line) => !line.includes('no heartbeat could be written'));
  expect(others).toEqual([]);
  expect(troubles(killed)).toEqual([]);
});
