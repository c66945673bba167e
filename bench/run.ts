/**
 * `npm run bench [-- scenario …]`: each scenario in a process of its own, one after another, on a real MongoDB started for
 * it. Machines are noisy, so every scenario measures its peer or its physical limit in the same run, beside our figure.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { startMongods } from '../test/support/mongods.ts';
import type { Figure } from './report.ts';

const SCENARIOS = [
  'throughput',
  'latency',
  'freeze',
  'memory',
  'takeover',
  'recovery',
  'many',
  'polls',
  'smtp',
  'recurrence',
  'due-together',
  'paced',
  'health',
  'health-busy',
];

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !SCENARIOS.includes(name));
if (unknown.length > 0) {
  console.error(`Unknown scenario: ${unknown.join(', ')}. There are: ${SCENARIOS.join(', ')}`);
  process.exit(2);
}
console.log(
  `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, Node ${process.version}, load ${loadavg()[0]?.toFixed(1)}\n`,
);

let missed = 0;
let failed = 0;
for (const name of wanted.length > 0 ? wanted : SCENARIOS) {
  const mongods = await startMongods({ cacheGB: '1' });
  console.log(`## ${name}`);
  const child = fork(fileURLToPath(new URL(`./scenarios/${name}.ts`, import.meta.url)), [], {
    execArgv: ['--expose-gc', '--import', 'tsx'],
    env: {
      ...process.env,
      MONGO_URL: mongods.uriFor(`bench_${name}`),
      MONGO_PID: String(mongods.members[0]?.pid() ?? 0),
    },
  });
  child.on('message', (line: Figure) => {
    const verdict = line.met === undefined ? '' : line.met ? '  ok' : '  MISSED';
    if (line.met === false) missed += 1;
    console.log(
      `${line.what.padEnd(76)} ${line.value.padStart(22)}${line.aim === undefined ? '' : `   (aim ${line.aim})`}${verdict}`,
    );
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) {
    failed += 1;
    console.log(`scenario ${name} ended with ${code}`);
  }
  await mongods.stop();
  console.log();
}
console.log(`${missed} aims missed, ${failed} scenarios failed`);
process.exitCode = failed > 0 ? 1 : 0;
