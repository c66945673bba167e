/** Who is dead: only who was seen with the same claim and number for its own time, in an unbroken row of looks. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Sighting, Watch } from '../../src/core/liveness.ts';

const claim = (more: Partial<Sighting> = {}): Sighting => ({
  key: 'page',
  token: 'a',
  seq: 1,
  ttlMs: 100,
  ...more,
});
const keys = (dead: readonly Sighting[]): string[] => dead.map(({ key }) => key);

describe('a holder', () => {
  it('is dead when its own time has passed since it was first seen so', () => {
    const watch = new Watch();
    expect(watch.look([claim()], 1_000)).toEqual([]);
    expect(watch.look([claim()], 1_050)).toEqual([]);
    expect(watch.look([claim()], 1_099)).toEqual([]);
    expect(keys(watch.look([claim()], 1_100))).toEqual(['page']);
  });

  it.each<[string, Partial<Sighting>]>([
    ['wrote', { seq: 2 }],
    ['is another', { token: 'b' }],
  ])('that %s is watched anew', (_what, more) => {
    const watch = new Watch();
    watch.look([claim()], 0);
    expect(watch.look([claim(more)], 99)).toEqual([]);
    expect(watch.look([claim(more)], 149)).toEqual([]);
    expect(watch.look([claim(more)], 198)).toEqual([]);
    expect(keys(watch.look([claim(more)], 199))).toEqual(['page']);
  });

  it('that let go in between is watched anew, even with the same number', () => {
    const watch = new Watch();
    watch.look([claim()], 0);
    watch.look([], 50);
    expect(watch.look([claim()], 120)).toEqual([]);
  });

  it('has its own time, not the watcher’s', () => {
    const watch = new Watch();
    const both = [claim(), claim({ key: 'slow', ttlMs: 500 })];
    for (const atMs of [0, 50]) expect(watch.look(both, atMs)).toEqual([]);
    for (const atMs of [100, 300, 499]) expect(keys(watch.look(both, atMs))).toEqual(['page']);
    expect(keys(watch.look(both, 500))).toEqual(['page', 'slow']);
  });

  it('is not blamed for the time that the answer to a look took', () => {
    const watch = new Watch();
    watch.look([claim()], 0, 60);
    expect(watch.look([claim()], 100, 1_000)).toEqual([]); // silent from 60 to 100; then the database hung
    expect(watch.look([claim()], 1_050, 1_050)).toEqual([]);
    expect(keys(watch.look([claim()], 1_060))).toEqual(['page']);
  });

  it('is not blamed for a time in which its watcher was stopped', () => {
    const watch = new Watch();
    watch.look([claim()], 0);
    expect(watch.look([claim()], 60_000)).toEqual([]);
    expect(keys(watch.look([claim()], 60_050))).toEqual(['page']);
  });

  it('is watched anew after a look that failed', () => {
    const watch = new Watch();
    watch.look([claim()], 0);
    watch.forget();
    expect(watch.look([claim()], 1_000)).toEqual([]);
    expect(watch.look([claim()], 1_099)).toEqual([]);
    expect(keys(watch.look([claim()], 1_149))).toEqual(['page']);
  });
});

it('law: nobody dies earlier than its time after its last change, or its first sighting since a break', () => {
  const event = fc.record({
    afterMs: fc.nat(80),
    what: fc.constantFrom('nothing', 'nothing', 'writes', 'changes hands', 'gap', 'failure'),
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), (events) => {
      const watch = new Watch();
      let now = 0;
      let since: number | undefined;
      let lastLook = 0;
      let silent = 0;
      let { token, seq } = claim();
      for (const { afterMs, what } of events) {
        now += afterMs;
        if (what === 'writes') seq += 1;
        if (what === 'changes hands') token = `${token}'`;
        if (what === 'failure') watch.forget();
        if (what === 'gap') watch.look([], now);
        if (what !== 'nothing') since = undefined;
        if (what === 'failure' || what === 'gap') {
          if (what === 'gap') lastLook = now;
          continue;
        }
        const dead = watch.look([claim({ token, seq })], now).length === 1;
        silent = since === undefined ? 0 : silent + Math.min(50, now - lastLook);
        since ??= now;
        lastLook = now;
        expect(dead).toBe(silent >= 100);
        if (dead) expect(now - since).toBeGreaterThanOrEqual(100);
      }
    }),
  );
});
