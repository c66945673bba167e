import { expect, it } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { neverThrowing, warnOncePer } from '../../src/queue/quiet-logger.ts';
import { recordingLogger } from './alarm-fixtures.ts';

it('an error is said at once, its like once a minute with their number, another at once', () => {
  const { logger, log } = recordingLogger();
  let now = 0;
  const warn = warnOncePer(60_000, logger, { ...systemClock, monotonic: () => now });
  const lost = (connection: number) => new Error(`connection ${connection} to 127.0.0.1:27017 closed`);
  warn(lost(1), 'failed');
  warn(lost(2), 'failed');
  warn(new Error('no primary'), 'failed');
  warn(lost(33), 'failed');
  now = 60_000;
  warn(lost(4), 'failed');
  warn(lost(5), 'failed');
  expect(log.map(({ fields }) => [(fields.error as Error).message, fields.repeated])).toEqual([
    [lost(1).message, undefined],
    ['no primary', undefined],
    [lost(4).message, 2],
  ]);
});

it('a logger that throws is no reason to stop', () => {
  const shout = () => {
    throw new Error('the disk is full');
  };
  const quiet = neverThrowing({ debug: shout, info: shout, warn: shout, error: shout });
  expect(() => quiet.error({}, 'failed')).not.toThrow();
});
