/** A process that sends at a shared rate and reports every send at once. Told to go, to stop, or killed. */
import { systemClock } from '../../src/clock.ts';
import type { Rate } from '../../src/core/rate.ts';
import { RateGates } from '../../src/delivery/rate-gates.ts';
import { openStore } from '../../src/store/store.ts';
import { Sender } from './rate-senders.ts';

export interface RateWorkerOptions {
  readonly uri: string;
  readonly campaign: string;
  readonly rate: Rate;
}

const { uri, campaign, rate } = JSON.parse(process.argv[2] ?? '') as RateWorkerOptions;
const say = (kind: string, fields: object = {}): void => void process.send?.({ kind, ...fields });
process.on('unhandledRejection', (error) => say('unhandled', { error: String(error) }));

const store = await openStore({ mongo: uri, collectionPrefix: '', journalDays: 90 });
const gates = new RateGates(store, systemClock);
let sender: Sender | undefined;

process.on('message', ({ kind }: { kind: string }) => {
  if (kind === 'go') {
    const gate = gates.ofCampaign(campaign, rate);
    sender = new Sender(gate === undefined ? [] : [gate], {
      clock: systemClock,
      sendMs: 5,
      onSend: () => say('send', { at: performance.timeOrigin + performance.now() }),
    });
  }
  if (kind === 'stop') {
    sender?.stop();
    void gates
      .close()
      .then(() => store.close())
      .then(() => say('stopped'));
  }
});
say('ready');
