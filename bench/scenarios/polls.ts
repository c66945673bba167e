/** What it costs to wait: an idle worker beside 10,000 scheduled campaigns, and the keys that a claim examines. */
import { once } from 'node:events';
import { ObjectId } from 'mongodb';
import { buildPackage, builtWorker, connect, cpuOf, nullMessenger, people, start } from '../harness.ts';
import { figure, thousands } from '../report.ts';

buildPackage();
const author = await start({ messengers: { null: nullMessenger }, worker: false });
const client = await connect();
const db = client.db();
const { id } = await author.campaigns.create({
  name: 'model',
  messenger: 'null',
  content: {},
  sendAt: new Date(Date.now() + 86_400_000),
  audience: [{ id: '1', to: 'a@example.com' }],
});
const model = await db.collection('campaigns').findOne({ _id: new ObjectId(id) });
await db.collection('campaigns').insertMany(
  Array.from({ length: 9_999 }, (_, index) => {
    const { agendaJobId: _alarm, ...copy } = { ...model, _id: new ObjectId(), name: `c${index}` } as Record<
      string,
      unknown
    >;
    return copy;
  }),
);
const idle = await builtWorker();
await author.recover();
await author.stop();
await new Promise((resolve) => setTimeout(resolve, 3000));

await db.command({ profile: 2 });
const SECONDS = 30;
const pid = idle.pid ?? 0;
const cpu = cpuOf(pid);
await new Promise((resolve) => setTimeout(resolve, SECONDS * 1000));
const ours = await db
  .collection('system.profile')
  .find({ ns: { $not: /system\.profile$/ }, op: { $ne: 'killcursors' } })
  .toArray();
const own = (cpuOf(pid) - cpu) / (SECONDS * 10);
await db.command({ profile: 0 });
const most = Math.max(...ours.filter((op) => !isRecovery(op)).map(examined));
figure(
  'idle worker, 10,000 scheduled campaigns: MongoDB operations',
  `${(ours.length / SECONDS).toFixed(1)}/s`,
  '≤ 5/s',
  ours.length / SECONDS <= 5,
);
figure('  most keys or documents examined by a poll', `${most}`, '≤ 10', most <= 10);
figure('  CPU of the worker', `${own.toFixed(2)} %`, '< 1 %', own < 1);
figure(
  '  recovery every 30 s: operations, most keys',
  `${ours.filter(isRecovery).length}, ${Math.max(0, ...ours.filter(isRecovery).map(examined))}`,
);
await db.collection('system.profile').drop();
idle.kill();
await once(idle, 'exit');

// Claims in the midst of 4,000 pages, taken from live traffic because plans are cached.
await db.command({ profile: 2, filter: { 'command.findAndModify': 'ledger_pages' } });
const worker = await start({ messengers: { null: nullMessenger } });
const done = new Promise((resolve) => worker.on('campaign:completed', resolve));
await worker.campaigns.create({
  name: 'big',
  messenger: 'null',
  content: {},
  concurrency: 100,
  audience: people(1_000_000),
});
await done;
await db.command({ profile: 0 });
const claims = await db
  .collection('system.profile')
  .find({ 'command.findAndModify': 'ledger_pages' })
  .toArray();
const keys = Math.max(...claims.map(examined));
figure(
  `most keys examined by a claim, 4,000 pages (${thousands(claims.length)} latest claims profiled)`,
  `${keys}`,
  '≤ 10',
  keys <= 10,
);
await worker.stop();
await client.close();

/** A scan of a whole collection examines no key at all. */
function examined(op: Record<string, unknown>): number {
  return Math.max(Number(op.keysExamined ?? 0), Number(op.docsExamined ?? 0));
}

/** The rolling look at campaigns reads 1,000 on purpose, every 30 s. */
function isRecovery(op: Record<string, unknown>): boolean {
  return Number(op.nreturned ?? 0) > 100 || JSON.stringify(op.command ?? {}).length > 20_000;
}
