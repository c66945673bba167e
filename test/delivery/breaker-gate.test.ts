/** What a worker may do while the breaker is not closed, and what it counts as evidence, by a clock of the test's own. */
import { expect, it } from 'vitest';
import { DEFAULTS } from '../../src/config.ts';
import type { SendOutcome } from '../../src/core/outcome.ts';
import { BreakerGate } from '../../src/delivery/breaker-gate.ts';
import { VirtualClock } from './virtual-clock.ts';

const SENT: SendOutcome = { kind: 'sent' };
const failure = (kind: 'provider' | 'transient' | 'unknown'): SendOutcome => ({ kind, reason: kind });

function newGate() {
  const clock = new VirtualClock();
  const gate = new BreakerGate(clock, DEFAULTS.breaker);
  const hear = (outcome: SendOutcome, startedAt = clock.monotonic(), isEvident = true) =>
    gate.heard(outcome, startedAt, isEvident);
  return { clock, gate, hear };
}

it('shut: nothing starts; on trial: one at a time, so many, and only while the probe is surely held', async () => {
  const { clock, gate, hear } = newGate();
  expect(gate.mayStart(1_000, 10)).toBe(true);
  gate.shut();
  expect([gate.isShut, gate.mayStart(0, 10), gate.most(10)]).toEqual([true, false, 1]);
  gate.tryUntil(clock.monotonic() + 8_000);
  for (let n = 0; n < 5; n += 1) {
    expect(gate.mayStart(0, 10)).toBe(true);
    gate.started();
    expect(gate.mayStart(0, 10)).toBe(false); // the one before is under way
    hear(SENT);
  }
  expect(gate.mayStart(0, 10)).toBe(false); // all have been tried
  expect(gate.trial).toMatchObject({ started: 5, inFlight: 0, failed: 0, fatal: false });

  gate.shut();
  gate.tryUntil(clock.monotonic() + 8_000);
  await clock.advance(7_999);
  expect(gate.mayStart(0, 10)).toBe(true);
  await clock.advance(1); // as if it had been stopped: others may hold the probe now
  expect([gate.mayStart(0, 10), gate.isShut]).toEqual([false, true]);
});

it('what began before a trial is no part of it, and one failure of the provider ends it', async () => {
  const { clock, gate, hear } = newGate();
  const before = clock.monotonic();
  gate.shut();
  await clock.advance(1_000);
  gate.tryUntil(clock.monotonic() + 8_000);
  hear(failure('provider'), before);
  expect(gate.trial).toMatchObject({ started: 0, failed: 0, fatal: false });
  gate.started();
  hear(failure('transient'));
  expect(gate.mayStart(0, 10)).toBe(true); // perhaps it is the recipient
  gate.started();
  hear(failure('unknown'));
  expect(gate.trial).toMatchObject({ started: 2, inFlight: 0, failed: 2, fatal: true });
  expect(gate.mayStart(0, 10)).toBe(false);
});

it('what this worker ended itself, and what began before the breaker closed, is no evidence', async () => {
  const { clock, gate, hear } = newGate();
  hear(failure('unknown'), clock.monotonic(), false);
  expect(gate.evidence(0)).toBeUndefined();
  const before = clock.monotonic();
  await clock.advance(10);
  gate.shut();
  gate.close();
  await clock.advance(10);
  hear(failure('provider'), before);
  expect([gate.evidence(0), gate.hasNews]).toEqual([undefined, false]);
  hear(failure('provider'));
  expect(gate.evidence(5_000)).toMatchObject({ at: 5_000, failed: 1, consecutive: 1, detail: 'provider' });
});

it('doubt about so many in a row makes the worker careful by itself', () => {
  const { hear } = newGate();
  const answers = [1, 2, 3, 4, 5].map(() => hear(failure('unknown')));
  expect(answers).toEqual([false, false, false, false, true]);
  hear(SENT);
  expect(hear(failure('unknown'))).toBe(false);
});

it('after closing it lets more and more through', async () => {
  const { clock, gate } = newGate();
  gate.shut();
  gate.rampUp(0);
  gate.close();
  const most = [];
  for (const ms of [0, 5_000, 5_000]) {
    await clock.advance(ms);
    most.push(gate.most(16));
  }
  expect(most).toEqual([1, 4, Number.POSITIVE_INFINITY]);
  expect(gate.mayStart(1_000, 16)).toBe(true);
});

it('without a breaker nothing is counted', () => {
  const gate = new BreakerGate(new VirtualClock(), undefined);
  expect(gate.heard(failure('unknown'), 0, true)).toBe(false);
  expect([gate.evidence(0), gate.hasNews, gate.mayStart(1_000, 1)]).toEqual([undefined, false, true]);
});
