/** When an alert is raised, told, kept and cleared: a table, and a history told by a reference. */
import fc from 'fast-check';
import { expect, it, test } from 'vitest';
import {
  ALERT_LEVELS,
  type AlertLevel,
  onGone,
  onSeen,
  rankOf,
  SEEN_EVERY_MS,
  type StoredAlert,
} from '../../src/core/alert-policy.ts';

const NOW = new Date('2030-01-01T12:00:00Z');
const at = (seconds: number): Date => new Date(NOW.getTime() + seconds * 1_000);
const alert = (more: Partial<StoredAlert> = {}): StoredAlert => ({
  state: 'raised',
  level: 'warning',
  lastSeenAt: at(-5),
  ...more,
});
const cleared = (more: Partial<StoredAlert> = {}) => alert({ state: 'cleared', ...more });

test.each<[string, StoredAlert | undefined, AlertLevel, object]>([
  ['never seen before', undefined, 'info', { action: 'raise', tell: true }],
  ['cleared, the cool-down over', cleared({ quietUntil: at(0) }), 'warning', { action: 'raise', tell: true }],
  ['cleared without a cool-down', cleared(), 'warning', { action: 'raise', tell: true }],
  ['back within the cool-down', cleared({ quietUntil: at(1) }), 'warning', { action: 'raise', tell: false }],
  ['back and worse', cleared({ quietUntil: at(1) }), 'critical', { action: 'raise', tell: true }],
  ['back and less', cleared({ quietUntil: at(1) }), 'info', { action: 'raise', tell: false }],
  ['raised just now', alert(), 'warning', { action: 'keep' }],
  ['raised and less', alert(), 'info', { action: 'keep' }],
  ['raised and worse', alert(), 'critical', { action: 'update', level: 'critical', tell: true }],
  [
    'seen a minute ago',
    alert({ lastSeenAt: at(-60) }),
    'info',
    { action: 'update', level: 'warning', tell: false },
  ],
  ['raised quietly', alert({ quietUntil: at(1) }), 'warning', { action: 'keep' }],
  [
    'raised quietly, still there after the cool-down',
    alert({ quietUntil: at(0) }),
    'warning',
    { action: 'update', level: 'warning', tell: true },
  ],
  [
    'raised quietly and worse',
    alert({ quietUntil: at(9) }),
    'critical',
    { action: 'update', level: 'critical', tell: true },
  ],
])('seen: %s', (_name, stored, level, decision) => {
  expect(onSeen(stored, level, NOW, false)).toEqual(decision);
});

test('where too many are raised no further one is, but those that are go on', () => {
  expect(onSeen(undefined, 'critical', NOW, true)).toEqual({ action: 'suppress' });
  expect(onSeen(cleared(), 'critical', NOW, true)).toEqual({ action: 'suppress' });
  expect(onSeen(alert(), 'critical', NOW, true)).toMatchObject({ action: 'update' });
});

test.each<[string, StoredAlert | undefined, object]>([
  ['never seen', undefined, { action: 'none' }],
  ['cleared already', cleared(), { action: 'none' }],
  ['raised', alert(), { action: 'clear', tell: true }],
  ['raised quietly', alert({ quietUntil: at(9) }), { action: 'clear', tell: false }],
])('gone: %s', (_name, stored, decision) => {
  expect(onGone(stored)).toEqual(decision);
});

const COOLDOWN_MS = 600_000;

interface Told {
  readonly what: 'raised' | 'cleared';
  readonly at: number;
}

/** What the store makes of the decisions. */
function play(events: readonly { afterMs: number; level: AlertLevel | undefined }[]) {
  let stored: StoredAlert | undefined;
  let now = NOW.getTime();
  const told: Told[] = [];
  const steps: { at: number; level: AlertLevel | undefined; stored: StoredAlert | undefined }[] = [];
  let writes = 0;
  for (const { afterMs, level } of events) {
    now += afterMs;
    const date = new Date(now);
    if (level === undefined) {
      const decision = onGone(stored);
      if (decision.action === 'clear' && stored !== undefined) {
        writes += 1;
        const quietUntil = decision.tell ? new Date(now + COOLDOWN_MS) : stored.quietUntil;
        stored = { ...stored, state: 'cleared', quietUntil };
        if (decision.tell) told.push({ what: 'cleared', at: now });
      }
    } else {
      const decision = onSeen(stored, level, date, false);
      if (decision.action === 'raise' || decision.action === 'update') {
        writes += 1;
        const kept = decision.action === 'update' ? decision.level : level;
        const quietUntil = decision.tell ? undefined : stored?.quietUntil;
        stored = { state: 'raised', level: kept, lastSeenAt: date, quietUntil };
        if (decision.tell) told.push({ what: 'raised', at: now });
      }
    }
    steps.push({ at: now, level, stored });
  }
  return { told, steps, writes };
}

/** Told by its own book-keeping: what people have been told last, and when a quiet time ends. */
function reference(events: readonly { afterMs: number; level: AlertLevel | undefined }[]): Told[] {
  const told: Told[] = [];
  let now = NOW.getTime();
  let known: 'there' | 'gone' = 'gone';
  let quietUntil = Number.NEGATIVE_INFINITY;
  let highest = -1; // of the round that was seen last
  let present = false;
  for (const { afterMs, level } of events) {
    now += afterMs;
    if (level === undefined) {
      if (known === 'there') {
        told.push({ what: 'cleared', at: now });
        known = 'gone';
        quietUntil = now + COOLDOWN_MS;
      }
      present = false;
      continue;
    }
    const rank = rankOf(level);
    const worse = highest >= 0 && rank > highest;
    if ((known === 'gone' && now >= quietUntil) || worse) {
      told.push({ what: 'raised', at: now });
      known = 'there';
    }
    highest = present ? Math.max(highest, rank) : rank;
    present = true;
  }
  return told;
}

const history = fc.array(
  fc.record({
    afterMs: fc.oneof(fc.nat(60_000), fc.nat(700_000)),
    level: fc.option(fc.constantFrom(...ALERT_LEVELS), { nil: undefined, freq: 2 }),
  }),
  { maxLength: 60 },
);

it('law: what is told is what the reference tells', () => {
  fc.assert(
    fc.property(history, (events) => {
      expect(play(events).told).toEqual(reference(events));
    }),
  );
});

it('law: a beginning and an end take turns, but that a worse level is told in between', () => {
  fc.assert(
    fc.property(history, (events) => {
      const level = 'warning' as const;
      const { told } = play(events.map((event) => (event.level === undefined ? event : { ...event, level })));
      for (const [index, { what }] of told.entries())
        expect(what).toBe(index % 2 === 0 ? 'raised' : 'cleared');
    }),
  );
});

it('law: what is stored is what was seen last, and what is kept costs a write a minute at the most', () => {
  fc.assert(
    fc.property(history, (events) => {
      for (const { level, stored } of play(events).steps) {
        expect(stored?.state ?? 'cleared').toBe(level === undefined ? 'cleared' : 'raised');
      }
    }),
  );
  const steady = Array.from({ length: 100 }, () => ({ afterMs: 30_000, level: 'warning' as const }));
  expect(play(steady).writes).toBe(1 + Math.floor((99 * 30_000) / SEEN_EVERY_MS));
});
