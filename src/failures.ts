/**
 * Why recipients of a run failed or are unknown, in groups. Reads the ledger page by page, only pages with such recipients
 * and of those only what was said. Invariant: memory grows neither with the audience nor with the failures.
 */
import { setImmediate } from 'node:timers/promises';
import { type FailureGroup, FailureGroups } from './core/failure-pattern.ts';
import { expectation, integerProblems, refuseProblems } from './input-checks.ts';
import { recipientIds } from './store/audiences.ts';
import type { RunDoc } from './store/documents.ts';
import { failedPages } from './store/ledger-pages.ts';
import type { Store } from './store/store.ts';

export interface FailuresOptions {
  /** Which run. Default: the open one, else the latest. */
  readonly occurrence?: string | undefined;
  /** Most groups, 1 to 1000. Default: 100. */
  readonly limit?: number | undefined;
  /** Recipients named of each group, 0 to 20. Default: 3. */
  readonly samples?: number | undefined;
}

export interface FailureReport {
  readonly failed: number;
  readonly unknown: number;
  /** The largest first. */
  readonly groups: readonly {
    readonly state: 'failed' | 'unknown';
    /** An SMTP or HTTP code, `timeout`, … */
    readonly code: string | null;
    /** With `<n>`, `<address>`, `<id>`, `<text>`, … for what differs; null: no reason was given. */
    readonly reason: string | null;
    readonly count: number;
    readonly firstAt: Date;
    readonly lastAt: Date;
    /** Some of them, with what was said of each. */
    readonly samples: readonly { readonly recipient: string; readonly reason: string | null }[];
  }[];
  /** Failed and unknown ones in none of these groups. */
  readonly others: number;
}

interface Place {
  readonly n: number;
  readonly index: number;
}

/** @throws ValidationError `invalid_options`. */
export function checkFailuresOptions({ occurrence, limit = 100, samples = 3 }: FailuresOptions) {
  const problems = [
    ...integerProblems('limit', limit, 1, 1_000),
    ...integerProblems('samples', samples, 0, 20),
  ];
  if (occurrence !== undefined && typeof occurrence !== 'string') {
    problems.push({ path: 'occurrence', message: expectation('occurrence', 'text', occurrence) });
  }
  refuseProblems('Failures cannot be grouped', problems);
  return { limit, samples };
}

export async function groupFailures(
  store: Store,
  run: RunDoc | null,
  { limit, samples }: { readonly limit: number; readonly samples: number },
): Promise<FailureReport> {
  const counted = { failed: 0, unknown: 0 };
  const groups = new FailureGroups<Place>(samples);
  if (run === null) return { ...counted, groups: [], others: 0 };
  for await (const { n, page } of failedPages(store, { runId: run._id, pages: run.pages ?? 0 })) {
    for (const index of page.indices('failed', 'unknown')) {
      const state = page.state(index) as 'failed' | 'unknown';
      const { code, reason } = page.detail(index) ?? {};
      counted[state] += 1;
      groups.add({ state, code, reason, at: page.at(index) }, { n, index });
    }
    await setImmediate(); // a million failures must not keep a worker from its sends
  }
  const shown = groups.largest(limit);
  const names = await namesOf(store, run.audienceId ?? '', shown);
  const inGroups = shown.reduce((sum, { count }) => sum + count, 0);
  return {
    ...counted,
    groups: shown.map(({ firstAt, lastAt, samples: of, ...group }) => ({
      ...group,
      firstAt: new Date(firstAt),
      lastAt: new Date(lastAt),
      samples: of.map(({ place, reason }) => ({ recipient: names.get(keyOf(place)) ?? '', reason })),
    })),
    others: groups.total - inGroups,
  };
}

const keyOf = ({ n, index }: Place): string => `${n}:${index}`;

async function namesOf(
  store: Store,
  audienceId: string,
  groups: readonly FailureGroup<Place>[],
): Promise<Map<string, string>> {
  const wanted = new Map<number, number[]>();
  for (const { samples } of groups) {
    for (const { place } of samples) wanted.set(place.n, [...(wanted.get(place.n) ?? []), place.index]);
  }
  const names = new Map<string, string>();
  for await (const { n, ids } of recipientIds(store, audienceId, [...wanted.keys()])) {
    for (const index of wanted.get(n) ?? []) names.set(keyOf({ n, index }), ids[index] ?? '');
  }
  return names;
}
