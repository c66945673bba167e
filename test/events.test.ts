/** The event bus: typed, in order, and no listener can do harm. */
import { describe, expect, expectTypeOf, test } from 'vitest';
import { EventBus, type EventMap } from '../src/events.ts';
import type { Logger } from '../src/logger.ts';

function recordingLogger() {
  const errors: object[] = [];
  const none = () => {};
  const logger: Logger = { debug: none, info: none, warn: none, error: (fields) => errors.push(fields) };
  return { logger, errors };
}

function startBus() {
  const { logger, errors } = recordingLogger();
  return { bus: new EventBus(logger), errors };
}

const W1 = { workerId: 'w1' };

describe('listening', () => {
  test('on, once and off, in the order of registration', () => {
    const { bus } = startBus();
    const calls: string[] = [];
    const first = () => calls.push('first');
    bus.on('worker:started', first);
    bus.once('worker:started', ({ workerId }) => calls.push(`once ${workerId}`));
    const end = bus.on('worker:started', () => calls.push('last'));
    bus.emit('worker:started', W1);
    bus.emit('worker:started', W1);
    expect(calls).toEqual(['first', 'once w1', 'last', 'first', 'last']);
    bus.off('worker:started', first);
    end();
    end();
    bus.emit('worker:started', W1);
    expect(calls).toHaveLength(5);
  });

  test('off ends a once, and one registration of two', () => {
    const { bus } = startBus();
    let calls = 0;
    const listener = () => {
      calls += 1;
    };
    bus.once('worker:stopped', listener);
    bus.off('worker:stopped', listener);
    bus.off('worker:stopped', listener);
    bus.emit('worker:stopped', W1);
    expect(calls).toBe(0);
    bus.on('worker:stopped', listener);
    bus.on('worker:stopped', listener);
    bus.off('worker:stopped', listener);
    bus.emit('worker:stopped', W1);
    expect(calls).toBe(1);
  });

  test('has says whether anybody listens', () => {
    const { bus } = startBus();
    expect(bus.has('delivery:sent')).toBe(false);
    const end = bus.on('delivery:sent', () => {});
    expect(bus.has('delivery:sent')).toBe(true);
    expect(bus.has('delivery:failed')).toBe(false);
    end();
    expect(bus.has('delivery:sent')).toBe(false);
    bus.once('delivery:sent', () => {});
    bus.emit('delivery:sent', {} as EventMap['delivery:sent']);
    expect(bus.has('delivery:sent')).toBe(false);
  });

  test('a listener added during an event hears the next one; a once that emits is called once', () => {
    const { bus } = startBus();
    const calls: string[] = [];
    bus.once('worker:started', () => {
      calls.push('once');
      bus.on('worker:started', () => calls.push('added'));
      bus.emit('worker:started', W1);
    });
    bus.emit('worker:started', W1);
    expect(calls).toEqual(['once', 'added']);
  });

  test('payloads are typed by the name of the event', () => {
    const { bus } = startBus();
    bus.on('campaign:completed', ({ campaign, report }) => {
      expectTypeOf(campaign.id).toEqualTypeOf<string>();
      expectTypeOf(report.sent).toEqualTypeOf<number>();
    });
    // @ts-expect-error no such event
    bus.on('campaign:done', () => {});
    // @ts-expect-error a payload of another event
    bus.emit('campaign:progress', W1);
  });
});

describe('a listener that fails', () => {
  test('by throwing: it is logged, and the others are called', () => {
    const { bus, errors } = startBus();
    const error = new Error('mine');
    let heard = false;
    bus.on('worker:started', () => {
      throw error;
    });
    bus.on('worker:started', () => {
      heard = true;
    });
    bus.emit('worker:started', W1);
    expect(heard).toBe(true);
    expect(errors).toEqual([{ event: 'worker:started', error }]);
  });

  test('by rejecting: it is logged, and nothing is left unhandled', async () => {
    const { bus, errors } = startBus();
    const error = new Error('mine');
    bus.on('worker:started', async () => {
      throw error;
    });
    bus.emit('worker:started', W1);
    expect(errors).toEqual([]);
    await new Promise(setImmediate);
    expect(errors).toEqual([{ event: 'worker:started', error }]);
  });

  test('by answering with a broken promise', () => {
    const { bus, errors } = startBus();
    bus.on('worker:started', () => ({
      // biome-ignore lint/suspicious/noThenProperty: the point of the test
      then() {
        throw new Error('mine');
      },
    }));
    bus.emit('worker:started', W1);
    expect(errors).toHaveLength(1);
  });

  test('while the logger throws too', () => {
    const { logger } = recordingLogger();
    const bus = new EventBus({
      ...logger,
      error: () => {
        throw new Error('no disk');
      },
    });
    bus.on('worker:started', () => {
      throw new Error('mine');
    });
    expect(() => bus.emit('worker:started', W1)).not.toThrow();
  });
});
