/** How long a holder may trust its claim when the answer to a write was lost. */
import type { Db } from 'mongodb';
import pLimit from 'p-limit';
import { expect, inject, it, onTestFinished } from 'vitest';
import type { Clock } from '../../src/clock.ts';
import { LedgerPage } from '../../src/core/ledger-page.ts';
import type { HoldEnvironment } from '../../src/delivery/hold-environment.ts';
import { PageFlusher } from '../../src/delivery/page-flusher.ts';
import { Slots } from '../../src/delivery/slots.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import { testDatabase } from '../support/mongo.ts';
import { startProxy } from '../support/proxy.ts';
import { quiet, until } from './fixtures.ts';

const { db, name } = await testDatabase();
const TTL_MS = 10_000;
const MARGIN_MS = 2_000;

/** A clock that the test moves; what is scheduled runs when the test says so. */
function handClock(): Clock & { ms: number; runWithin(ms: number): void } {
  const timers = new Set<{ ms: number; run: () => void }>();
  const clock = {
    ms: 0,
    now: () => new Date(clock.ms),
    monotonic: () => clock.ms,
    schedule: (ms: number, run: () => void) => {
      const timer = { ms, run };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
    /** Runs what was scheduled for so soon. */
    runWithin: (ms: number): void => {
      const due = [...timers].filter((timer) => timer.ms <= ms);
      for (const timer of due) {
        timers.delete(timer);
        timer.run();
      }
    },
  };
  return clock;
}

function environment(store: Store, clock: Clock): HoldEnvironment {
  return {
    store,
    clock,
    serverNow: () => clock.now(),
    random: () => 0,
    logger: quiet,
    workerId: 'w',
    claimTtlMs: TTL_MS,
    claimMarginMs: MARGIN_MS,
    sendTimeoutMs: 1_000,
    inTurn: pLimit(1),
    suspectPlace: new Slots(1),
    telling: new Set(),
    stopped: () => false,
    onRecorded: () => undefined,
    onFlushed: () => {},
    onQuarantined: () => undefined,
    wantsDeliveries: () => false,
  };
}

const seqOf = async (database: Db): Promise<unknown> =>
  (
    await database
      .collection<{ _id: string; claim?: { seq: number } }>('ledger_pages')
      .findOne({ _id: 'run:0' })
  )?.claim?.seq;

it('a flush that was applied long ago, and whose answer was lost, is no fresh sign of life', async () => {
  const proxy = await startProxy(inject('mongoUri'));
  onTestFinished(() => proxy.stop());
  const store = await openStore({
    mongo: `${proxy.uriFor(name)}&retryWrites=false`,
    collectionPrefix: '',
    journalDays: 1,
  });
  onTestFinished(() => store.close());
  const claim = { token: 't', seq: 0, workerId: 'w', ttlMs: TTL_MS, sendTimeoutMs: 1_000 };
  await db
    .collection<{ _id: string }>('ledger_pages')
    .insertOne({ _id: 'run:0', runId: 'run', n: 0, status: 'claimed', claim, orderNo: 0 } as { _id: string });
  const clock = handClock();
  const flusher = new PageFlusher(environment(store, clock), 'run:0', claim, { monotonic: 0, wall: 0 });
  const page = new LedgerPage(10);
  const image = {
    columns: page.columns(),
    counts: page.counts,
    details: page.takeChangedDetails(),
    unsettled: [],
    orderNo: 0,
    deaths: 0,
  };

  proxy.pause('answers');
  const answer = flusher.flush(image, undefined, []);
  await until('the write', async () => (await seqOf(db)) === 1); // from now on a watcher counts
  clock.ms = TTL_MS - 500;
  proxy.cut();
  proxy.resume();
  // The first repetitions may fail on connections that are gone.
  const ending = async <T>(work: Promise<T>): Promise<T> => {
    let ended = false;
    void work.finally(() => {
      ended = true;
    });
    await until('the end', () => {
      clock.runWithin(1_000);
      return ended;
    });
    return work;
  };
  expect(await ending(answer)).toBe('applied');
  clock.ms = TTL_MS + 1_000; // a watcher has taken the page by now
  expect(flusher.trusted).toBe(false);

  expect(await ending(flusher.flush(image, undefined, []))).toBe('applied');
  expect(flusher.trusted).toBe(true);
});
