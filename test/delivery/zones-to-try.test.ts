/** In which zones claims look for a page: every one has its turn, and none is left out for long. */
import { expect, it } from 'vitest';
import { ZonesToTry } from '../../src/delivery/zones-to-try.ts';
import { VirtualClock } from './virtual-clock.ts';

const open = Array.from({ length: 20 }, (_, index) => `z${index}`);

it('a claim asks for few zones at a time, and the next one begins with others', () => {
  const zones = new ZonesToTry(new VirtualClock());
  const firsts = Array.from({ length: 3 }, () => [...zones.groups(open)]).map((groups) => {
    expect(groups.flat().sort()).toEqual([...open].sort());
    for (const group of groups) expect(group.length).toBeLessThanOrEqual(8);
    return groups[0];
  });
  expect(new Set(firsts.flat()).size).toBe(open.length);
});

it('where none was found rests for a while, or until a look has found one', async () => {
  const clock = new VirtualClock();
  const zones = new ZonesToTry(clock);
  zones.foundNone(['z0', 'z1']);
  expect([...zones.groups(['z0', 'z1', 'z2'])]).toEqual([['z2']]);
  zones.foundIn(['z1']);
  expect([...zones.groups(['z0', 'z1', 'z2'])]).toEqual([['z1', 'z2']]);
  await clock.advance(10_001);
  expect([...zones.groups(['z0', 'z1', 'z2'])]).toEqual([['z0', 'z1', 'z2']]);
  expect([...zones.groups([])]).toEqual([]);
});
