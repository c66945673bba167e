/**
 * 1,000 campaigns that may each send one message a second, in one worker: is the rate reached, by all of them, and what
 * does it cost? Beside it, in the same run: what the same number of bare writes costs.
 */
import type { Messenger } from '../../src/index.ts';
import {
  connect,
  cpuOf,
  nullMessenger,
  people,
  plantDue,
  serverFigures,
  start,
  touches,
} from '../harness.ts';
import { figure, thousands } from '../report.ts';

const CAMPAIGNS = Number(process.env.BENCH_COUNT ?? 1000);
const SECONDS = 20;
/** Longer than starting all of them and measuring takes: none ends before. */
const PEOPLE = 240;
const LONGEST_START_MS = 60_000;

const sent = new Map<string, number>();
const messenger: Messenger = {
  send: async (message) => {
    sent.set(message.campaign.id, (sent.get(message.campaign.id) ?? 0) + 1);
    return { status: 'sent' };
  },
};
const client = await connect();
const db = client.db();
const author = await start({ messengers: { null: nullMessenger }, worker: false });
await author.campaigns.create({
  name: 'model',
  messenger: 'null',
  content: { text: 'x' },
  rate: { perSecond: 1 },
  sendAt: new Date(Date.now() + 3_600_000),
  audience: people(PEOPLE),
});
await plantDue(db, CAMPAIGNS);
await author.recover(); // makes their alarms
await author.stop();

const began = performance.now();
const worker = await start({ messengers: { null: messenger } });
const late = began + LONGEST_START_MS;
while (sent.size < CAMPAIGNS && performance.now() < late) await sleep(100);
const started = (performance.now() - began) / 1000;
figure(`${thousands(CAMPAIGNS)} campaigns at 1/s each: all have sent after`, `${started.toFixed(1)} s`);
await sleep(5000);

const before = { ...(await serverFigures(client)), cpu: process.cpuUsage(), sent: new Map(sent) };
const touched = await touches(db);
const from = performance.now();
await sleep(SECONDS * 1000);
const seconds = (performance.now() - from) / 1000;
const own = process.cpuUsage(before.cpu);
const after = await serverFigures(client);
const later = await touches(db);
const each = [...sent]
  .map(([id, count]) => (count - (before.sent.get(id) ?? 0)) / seconds)
  .sort((a, b) => a - b);
const total = each.reduce((sum, rate) => sum + rate, 0);
const operations = (after.operations - before.operations) / seconds;
figure(
  `  messages per second, over ${Math.round(seconds)} s`,
  thousands(total),
  `${thousands(CAMPAIGNS)} ± 5 %`,
  Math.abs(total / CAMPAIGNS - 1) <= 0.05,
);
figure(
  '  of single campaigns: slowest, median, fastest',
  [each[0], each[Math.floor(each.length / 2)], each.at(-1)].map((rate) => (rate ?? 0).toFixed(2)).join(', '),
);
figure('  MongoDB operations', `${thousands(operations)}/s`);
figure('  MongoDB operations for each message', (operations / total).toFixed(1));
for (const [name, count] of later) {
  const times = (count - (touched.get(name) ?? 0)) / seconds / total;
  if (times >= 0.05) figure(`    of these in ${name}`, times.toFixed(1));
}
const share = (ms: number): string => `${Math.round(ms / seconds / 10)} %`;
figure('  CPU of the worker, of one core', share((own.user + own.system) / 1000));
figure('  CPU of MongoDB, of one core', share(after.cpuMs - before.cpuMs));
await worker.stop({ timeoutMs: 10_000 });

// The least that a message at this pace costs: its intent, its outcome, and its token.
const WRITES = 3 * Math.round(total) * 5;
const documents = db.collection<{ _id: number; seq: number }>('bare', {
  writeConcern: { w: 'majority', journal: true },
});
await documents.insertMany(Array.from({ length: CAMPAIGNS }, (_, _id) => ({ _id, seq: 0 })));
const bareBefore = {
  cpuMs: (await serverFigures(client)).cpuMs,
  own: cpuOf(process.pid),
  at: performance.now(),
};
let next = 0;
await Promise.all(
  Array.from({ length: 50 }, async () => {
    for (let n = next++; n < WRITES; n = next++) {
      const seq = Math.floor(n / CAMPAIGNS) + 1;
      await documents.updateOne({ _id: n % CAMPAIGNS, seq: { $lt: seq } }, { $set: { seq } });
    }
  }),
);
const bareMs = performance.now() - bareBefore.at;
const ownMs = (cpuOf(process.pid) - bareBefore.own) / 5;
const serverMs = ((await serverFigures(client)).cpuMs - bareBefore.cpuMs) / 5;
figure(
  `bare: 3 guarded writes a message, same run; writes that were possible`,
  `${thousands((WRITES / bareMs) * 1000)}/s`,
);
figure(
  '  CPU for one second of them: worker, MongoDB',
  `${Math.round(ownMs / 10)} %, ${Math.round(serverMs / 10)} %`,
);
await client.close();

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
