/**
 * The provider of these tests: a messenger that keeps a log of every hand-over and does to each recipient what the test
 * planned. Sends wait at a gate while the test holds it, so that a test decides what is in flight.
 */
import { expect } from 'vitest';
import type { Message, Messenger, SendContext, SendResult } from '../../src/messengers/messenger.ts';
import { type Door, door, Signals } from '../queue/signals.ts';

/** What becomes of one hand-over: an answer, a promise of one, or a throw. Undefined: sent. */
export type Plan = (message: Message, context: SendContext) => unknown;

export interface Provider {
  readonly messenger: Messenger;
  /** Every hand-over begun, in order. */
  readonly calls: Signals<Message>;
  /** Ids of the recipients whose messages left. */
  readonly left: string[];
  /** Sends that have begun and not ended. */
  readonly inFlight: number;
  /** The most sends that were in flight at one time. */
  readonly most: number;
  plan(next: Plan): void;
  /** From now on every send waits. Returns the way to let them go on. */
  hold(): Door;
  /** Asserts that nobody was sent to twice. */
  expectNobodyTwice(): void;
}

/** How long a test waits for a signal before it fails: long, because other work may share the machine. */
export const PATIENCE = { timeout: 100_000, interval: 25 };

export function newProvider(extra: Partial<Messenger> = {}): Provider {
  const calls = new Signals<Message>('hand-overs');
  const left: string[] = [];
  let plan: Plan = () => undefined;
  let gate: Door | undefined;
  let inFlight = 0;
  let most = 0;
  const send = async (message: Message, context: SendContext): Promise<SendResult> => {
    inFlight += 1;
    most = Math.max(most, inFlight);
    calls.emit(message);
    try {
      await gate?.opened;
      const result = (await plan(message, context)) as SendResult | undefined;
      if (result === undefined || (result as { status?: unknown } | null)?.status === 'sent')
        left.push(message.recipient.id);
      return result === undefined ? { status: 'sent' } : result;
    } finally {
      inFlight -= 1;
    }
  };
  return {
    messenger: { ...extra, send },
    calls,
    left,
    get inFlight() {
      return inFlight;
    },
    get most() {
      return most;
    },
    plan: (next) => {
      plan = next;
    },
    hold: () => {
      const mine = door();
      gate = mine;
      return {
        opened: mine.opened,
        open: () => {
          if (gate === mine) gate = undefined;
          mine.open();
        },
      };
    },
    expectNobodyTwice: () => {
      const twice = left.filter((id, index) => left.indexOf(id) !== index);
      expect(twice).toEqual([]);
    },
  };
}
