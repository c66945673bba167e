/** Recovery of 100,000 campaigns that have no alarm. */
import { ObjectId } from 'mongodb';
import { connect, nullMessenger, start } from '../harness.ts';
import { figure, thousands } from '../report.ts';

const COUNT = Number(process.env.BENCH_COUNT ?? 100_000);
const author = await start({ messengers: { null: nullMessenger }, worker: false });
const { id } = await author.campaigns.create({
  name: 'model',
  messenger: 'null',
  content: {},
  sendAt: new Date(Date.now() + 3_600_000),
  audience: [{ id: '1', to: 'a@example.com' }],
});
const client = await connect();
const campaigns = client.db().collection('campaigns');
const model = await campaigns.findOne({ _id: new ObjectId(id) });
for (let first = 0; first < COUNT; first += 5000) {
  const copies = Array.from({ length: Math.min(5000, COUNT - first) }, (_, index) => {
    const { agendaJobId: _alarm, ...copy } = {
      ...model,
      _id: new ObjectId(),
      name: `c${first + index}`,
    } as Record<string, unknown>;
    return copy;
  });
  await campaigns.insertMany(copies, { ordered: false });
}
const from = performance.now();
const report = await author.recover();
const seconds = (performance.now() - from) / 1000;
const alarms = await client.db().collection('agendaJobs').countDocuments();
figure(
  `recovery of ${thousands(report.recoveredCount)} campaigns without alarms (${thousands(alarms)} alarms after it)`,
  `${seconds.toFixed(1)} s`,
  '≤ 20 s',
  seconds <= 20 && alarms === COUNT + 1,
);
await client.close();
await author.stop();
