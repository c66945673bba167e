/** A process with crash handlers and an error that nobody catches, which lives all the same. */
import { onCrashes } from '../../src/crashes.ts';

const [, , host] = process.argv;
const say = (what: string): void => void process.send?.({ kind: 'heard', what });
onCrashes({
  record: async (_error, ends) => say(ends ? 'recorded, it ends' : 'recorded, it goes on'),
  goOn: () => say('goes on after all'),
});
if (host === 'capture') process.setUncaughtExceptionCaptureCallback(() => say('captured'));
if (host === 'unhandledRejection') process.on('unhandledRejection', () => say('host'));
const error = new Error('nobody catches it');
setImmediate(() => {
  void Promise.reject(error);
  setTimeout(() => process.send?.({ kind: 'alive' }), 100);
});
setInterval(() => undefined, 1_000);
