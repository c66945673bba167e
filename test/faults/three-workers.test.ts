/**
 * One of three workers is blocked by a loop, stopped, or killed, in the middle of a campaign: that is seen, the others take
 * its pages and nobody else's, and nobody is handed over twice. `FAULTS=long` blocks for 20 s. Prints how long it took.
 */
import { expect, it } from 'vitest';
import type { CampaignScheduler } from '../../src/index.ts';
import { testDatabase } from '../support/mongo.ts';
import type { Worker } from '../support/processes.ts';
import { bundledWorker } from './bundle.ts';
import { crew, tell, troubles } from './crew.ts';
import { people, testScheduler, until, untilClosed } from './fixtures.ts';
import { declaredProviders } from './providers.ts';

const { db, uri } = await testDatabase();
const { start, taken, untilTaken } = crew(await bundledWorker(), uri);

const CONCURRENCY = 5;
const BLOCK_MS = process.env.FAULTS === 'long' ? 20_000 : 6_000;
/** Workers that share two cores are slow now and then: only a fault may be longer than a claim. */
const OPTIONS = { claimTtlMs: 3_000, sendTimeoutMs: 2_000, workerOfflineAfterMs: 4_000, pageSize: 20 };

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

/** Waits until the others have all that `victim` held, while they go on with their own. Returns how long it took, ms. */
async function strike(rig: Rig, victim: Worker, others: readonly Worker[], fault: () => Promise<void>) {
  const { id, idOf } = rig;
  const before = (await takenOver(rig)).length;
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
    audience: people(6_000),
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
  const loop = strike(rig, blocked, [stopped, killed], async () => {
    tell(blocked, { kind: 'block', ms: BLOCK_MS });
    await blocked.next('blocking');
  });
  note(`event loop blocked for ${BLOCK_MS / 1_000} s`, await loop);
  await until('that it is offline', async () => (await stateOf(rig, blocked))?.state === 'offline');
  await blocked.next('unblocked', 60_000);
  await until('its delay', async () => {
    const { eventLoopDelayMs = 0, state } = (await stateOf(rig, blocked)) ?? {};
    return eventLoopDelayMs > BLOCK_MS / 2 && state === 'running';
  });
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
