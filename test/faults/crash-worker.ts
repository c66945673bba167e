/** A worker with crash handlers that ends by an error when it is told to; its sends never end. */
import { startCampaignScheduler } from '../../src/scheduler.ts';
import { SHORT } from '../engine/short.ts';

const { uri, listens } = JSON.parse(process.argv[2] ?? '') as { uri: string; listens?: boolean };
const say = (kind: string, fields: object = {}): void => void process.send?.({ kind, ...fields });
if (listens === true) process.on('uncaughtException', () => say('host-heard'));

const scheduler = await startCampaignScheduler({
  mongo: uri,
  messengers: {
    post: {
      send: (message) => {
        say('send', { recipient: message.recipient.id });
        return new Promise(() => undefined);
      },
    },
  },
  ...SHORT,
  claimTtlMs: 1_000,
  claimMarginMs: 200,
  crashHandlers: true,
  logger: { debug() {}, info() {}, warn() {}, error() {} },
});

process.on('message', ({ kind }: { kind: string }) => {
  const error = new TypeError('cannot read mongodb://ann:s3cret@db/app with password: "hunter2"');
  if (kind === 'throw')
    setImmediate(() => {
      throw error;
    });
  // The host begins to listen when it is already being written down.
  if (kind === 'listen') process.on('uncaughtException', () => say('host-heard'));
  if (kind === 'reject') void Promise.reject(error);
});
say('ready', { workerId: scheduler.workerId });
