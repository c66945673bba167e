// Runs inside `.cache/bench-peers`, on Node 22: adds the jobs in bulk, runs them, prints jobs per second, enqueueing included.
import { Logger, makeWorkerUtils, run } from 'graphile-worker';

const [, , connectionString, count] = process.argv;
const jobs = Number(count);
const logger = new Logger(() => () => undefined);
const utils = await makeWorkerUtils({ connectionString, logger });
await utils.migrate();
let done = 0;
let finished;
const all = new Promise((resolve) => {
  finished = resolve;
});
const from = performance.now();
for (let first = 0; first < jobs; first += 1000) {
  await utils.addJobs(
    Array.from({ length: Math.min(1000, jobs - first) }, (_, index) => ({
      identifier: 'noop',
      payload: { to: `user${first + index}@example.com` },
    })),
  );
}
const runner = await run({
  connectionString,
  logger,
  noHandleSignals: true,
  taskList: {
    noop: async () => {
      done += 1;
      if (done === jobs) finished();
    },
  },
  preset: {
    worker: {
      concurrentJobs: 50,
      maxPoolSize: 20,
      pollInterval: 100,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    },
  },
});
await all;
console.log(Math.round(jobs / ((performance.now() - from) / 1000)));
await runner.stop();
await utils.release();
process.exit(0);
