/** SIGKILL of a sending worker: alone with an immediate restart, and with another worker alive. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { people, slowMessenger, start } from '../harness.ts';
import { figure } from '../report.ts';

if (process.argv[2] === 'worker') {
  // Says which page each message belongs to: ids are in the order of the audience.
  const { send } = slowMessenger(20);
  const scheduler = await start({
    messengers: {
      slow: {
        send: (message, context) => {
          process.send?.({ id: Number(message.recipient.id.slice(1)), at: Date.now() });
          return send(message, context);
        },
      },
    },
  });
  process.on('disconnect', () => process.exit());
  void scheduler;
} else {
  const PAGE = 250;
  const COUNT = 40_000;
  const author = await start({ messengers: { slow: slowMessenger(20) }, worker: false });
  const worker = (): ChildProcess =>
    fork(fileURLToPath(import.meta.url), ['worker'], { execArgv: ['--import', 'tsx'] });
  for (const other of [false, true]) {
    const campaign = await author.campaigns.create({
      name: `takeover ${other}`,
      messenger: 'slow',
      content: {},
      concurrency: 20,
      audience: people(COUNT),
    });
    const victim = worker();
    const second = other ? worker() : undefined;
    const held = new Set<number>();
    let sent = 0;
    await new Promise<void>((resolve) => {
      victim.on('message', ({ id }: { id: number }) => {
        held.add(Math.floor(id / PAGE));
        sent += 1;
        if (sent > 1500) resolve();
      });
    });
    victim.kill('SIGKILL');
    await once(victim, 'exit');
    const killed = Date.now();
    const unfinished = new Set((await openPages(campaign.id)).filter((n) => held.has(n)));
    let first: number | undefined;
    let all: number | undefined;
    const survivor = second ?? worker();
    await new Promise<void>((resolve) => {
      survivor.on('message', ({ id, at }: { id: number; at: number }) => {
        if (at <= killed) return;
        first ??= at - killed;
        unfinished.delete(Math.floor(id / PAGE));
        if (unfinished.size > 0) return;
        all = at - killed;
        resolve();
      });
    });
    const how = other ? 'another worker alive' : 'restarted at once';
    figure(
      `SIGKILL, ${how}: first new message`,
      `${((first ?? Number.NaN) / 1000).toFixed(2)} s`,
      '≤ 3 s',
      (first ?? 1e9) <= 3000,
    );
    figure(
      `SIGKILL, ${how}: every held page moving again`,
      `${((all ?? Number.NaN) / 1000).toFixed(2)} s`,
      '≤ 15 s',
      (all ?? 1e9) <= 15_000,
    );
    await author.campaigns.cancel(campaign.id);
    survivor.kill('SIGKILL');
  }
  await author.stop();
  process.disconnect?.();

  /** Pages that the dead worker still held. */
  async function openPages(id: string): Promise<number[]> {
    const pages = author.models.CampaignRun.db.collection('ledger_pages');
    return (await pages.find({ runId: `${id}:once`, status: 'claimed' }).toArray()).map((page) =>
      Number(page.n),
    );
  }
}
