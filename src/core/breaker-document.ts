/**
 * A breaker as it is stored, and back. Pure. Invariant: what cannot have been written by this package (somebody edited it
 * by hand) is told apart from what can, so that it is repaired and nobody acts on it.
 */
import type { Breaker, Evidence, ManualOpening, Probe } from './breaker.ts';
import { isPlainObject } from './plain-data.ts';

/** No time that is stored lies further in the future than this. */
const LONGEST_MS = 25 * 3_600_000;

/** The fields of a breaker's document: dates for instants, nothing that its state does not have. */
export function documentOf(breaker: Breaker): Record<string, unknown> {
  const { state, term, openings, evidence } = breaker;
  const common = { state, term, openings, evidence: mapValues(evidence, evidenceDocument) };
  switch (breaker.state) {
    case 'closed':
      return { ...common, ...dates({ closedAt: breaker.closedAt }) };
    case 'open': {
      const { openedAt, detail, nextProbeAt, manual } = breaker;
      const person = manual === undefined ? {} : { manual: { ...manual, at: new Date(manual.at) } };
      return { ...common, detail, ...person, ...dates({ openedAt, nextProbeAt }) };
    }
    case 'half_open': {
      const { openedAt, detail, probe } = breaker;
      return {
        ...common,
        detail,
        ...dates({ openedAt }),
        probe: { ...probe, ...dates({ until: probe.until }) },
      };
    }
  }
}

export function evidenceDocument(evidence: Evidence): Record<string, unknown> {
  const { at, rowSince, succeededAt, ...rest } = evidence;
  return { ...rest, ...dates({ at, rowSince, succeededAt }) };
}

/** `undefined`: it is nonsense. `now`: by the server's time, ms. */
export function breakerOf(document: Readonly<Record<string, unknown>>, now: number): Breaker | undefined {
  try {
    return readBreaker(document, now);
  } catch (error) {
    if (error instanceof Nonsense) return undefined;
    throw error;
  }
}

class Nonsense extends Error {}

function readBreaker(document: Readonly<Record<string, unknown>>, now: number): Breaker {
  const { state } = document;
  const instant = (value: unknown): number => {
    const ms = value instanceof Date ? value.getTime() : Number.NaN;
    return fitting(ms, ms >= 0 && ms <= now + LONGEST_MS);
  };
  const evidence = mapValues(objectOf(document.evidence ?? {}), (one) =>
    readEvidence(objectOf(one), instant),
  );
  const common = { term: count(document.term), openings: count(document.openings), evidence };
  if (state === 'closed') {
    const { closedAt } = document;
    return { ...common, state, ...(closedAt === undefined ? {} : { closedAt: instant(closedAt) }) };
  }
  const openedAt = instant(document.openedAt);
  const detail = text(document.detail);
  const { manual, nextProbeAt, probe } = document;
  if (state === 'half_open') {
    return { ...common, state, openedAt, detail, probe: readProbe(objectOf(probe), instant) };
  }
  if (state !== 'open') throw new Nonsense();
  const opened = { ...common, state, openedAt, detail } as const;
  if (manual === undefined) return { ...opened, nextProbeAt: instant(nextProbeAt) };
  return { ...opened, manual: readManual(objectOf(manual), instant) };
}

function readEvidence(
  { at, succeeded, failed, consecutive, inRow, rowSince, succeededAt, detail }: Record<string, unknown>,
  instant: (value: unknown) => number,
): Evidence {
  return {
    at: instant(at),
    succeeded: count(succeeded),
    failed: count(failed),
    consecutive: count(consecutive),
    inRow: count(inRow),
    ...(rowSince === undefined ? {} : { rowSince: instant(rowSince) }),
    ...(succeededAt === undefined ? {} : { succeededAt: instant(succeededAt) }),
    ...(detail === undefined ? {} : { detail: text(detail) }),
  };
}

function readProbe(probe: Record<string, unknown>, instant: (value: unknown) => number): Probe {
  const { token, workerId, until } = probe;
  return { token: text(token), workerId: text(workerId), until: instant(until) };
}

function readManual(manual: Record<string, unknown>, instant: (value: unknown) => number): ManualOpening {
  const { by, reason, at } = manual;
  return { by: text(by), at: instant(at), ...(reason === undefined ? {} : { reason: text(reason) }) };
}

const fitting = <T>(value: T, fits: boolean): T => {
  if (!fits) throw new Nonsense();
  return value;
};
const count = (value: unknown): number =>
  fitting(value as number, Number.isSafeInteger(value) && Number(value) >= 0);
const text = (value: unknown): string => fitting(value as string, typeof value === 'string');
const objectOf = (value: unknown): Record<string, unknown> =>
  fitting(value as Record<string, unknown>, isPlainObject(value));

function mapValues<T, U>(entries: Readonly<Record<string, T>>, map: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(entries).map(([key, value]) => [key, map(value)]));
}

function dates(instants: Readonly<Record<string, number | undefined>>): Record<string, Date> {
  return Object.fromEntries(
    Object.entries(instants).flatMap(([name, ms]) => (ms === undefined ? [] : [[name, new Date(ms)]])),
  );
}
