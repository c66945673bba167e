/**
 * What people do with a rule: run it now, run past occurrences, change what later runs are made of. Pure but for the
 * errors: each function says what is to be written, `campaign-changes.ts` writes it under its guard. Invariant: changing a
 * rule never fires the past, and no occurrence gets a second run.
 */

import { refusal } from './campaign-changes.ts';
import { type CampaignInput, parseCampaign } from './campaign-input.ts';
import { type InstantInput, instantOf, instantProblem } from './core/instant.ts';
import { dueAtChange, MAX_QUEUED_RUNS, nextRinging } from './core/misfire.ts';
import { isPlainObject } from './core/plain-data.ts';
import { occurrenceKey, occurrencesBetween } from './core/recurrence.ts';
import type { Recurrence } from './core/recurrence-rule.ts';
import { ValidationError } from './errors.ts';
import { expectation, refuseProblems } from './input-checks.ts';
import type { Messenger } from './messengers/messenger.ts';
import type { CampaignChange } from './store/campaign-transitions.ts';
import { type CampaignDoc, type OpenRunRef, runIdOf } from './store/documents.ts';

/** Runs that one call may ask for: the campaign's document holds them until they have ended. */
const MAX_BACKFILL = 100;

/** A run that a person asks for, whatever the rule says. */
export function manualRun(campaign: CampaignDoc, id: string): OpenRunRef {
  if (campaign.openRuns.length > MAX_QUEUED_RUNS)
    throw refusal(campaign, 'run-now', `${campaign.openRuns.length} runs are waiting already`);
  const occurrence = `manual:${id}`;
  return { runId: runIdOf(campaign._id, occurrence), occurrence };
}

/** Past occurrences of the rule, from `from` to before `to`. Those that the rule has not come to yet come by themselves. */
export function pastRuns(
  campaign: CampaignDoc,
  from: InstantInput,
  to: InstantInput,
  now: Date,
): OpenRunRef[] {
  const rule = campaign.schedule.recurrence;
  if (rule === undefined) throw refusal(campaign, 'backfill', 'it does not recur');
  const problems = [
    { path: 'from', message: instantProblem(from, 'from') },
    { path: 'to', message: instantProblem(to, 'to') },
  ].flatMap(({ path, message }) => (message === undefined ? [] : [{ path, message }]));
  const what = 'These occurrences cannot be run';
  const refuse = (path: string, message: string): never => {
    throw new ValidationError('invalid_options', what, [{ path, message }]);
  };
  refuseProblems(what, problems);
  const [first, end] = [new Date(instantOf(from)), new Date(instantOf(to))];
  if (end <= first) return refuse('to', `Expected \`to\` to be after \`from\`, got ${end.toISOString()}`);
  if (end > now)
    return refuse('to', `Expected \`to\` to be past, got ${end.toISOString()}; what comes runs by itself`);
  const { occurrences, more } = occurrencesBetween(rule, first, end, MAX_BACKFILL);
  if (more)
    return refuse(
      'from',
      `Expected at most ${MAX_BACKFILL} occurrences from \`from\` to \`to\`, there are more`,
    );
  const open = new Set(campaign.openRuns.map(({ runId }) => runId));
  const last = campaign.lastOccurrence ?? now;
  const refs = occurrences.flatMap((nominalAt): OpenRunRef[] => {
    const occurrence = occurrenceKey(nominalAt);
    const runId = runIdOf(campaign._id, occurrence);
    const lateMs = now.getTime() - nominalAt.getTime();
    return nominalAt > last || open.has(runId) ? [] : [{ runId, occurrence, nominalAt, lateMs }];
  });
  if (campaign.openRuns.length + refs.length > MAX_QUEUED_RUNS + 1)
    throw refusal(campaign, 'backfill', `${campaign.openRuns.length} runs are waiting already`);
  return refs;
}

/** What may be changed of a campaign that exists. `null` takes a window or a rate away. */
export type CampaignUpdate = Partial<
  Pick<
    CampaignInput,
    | 'name'
    | 'content'
    | 'recurrence'
    | 'concurrency'
    | 'retry'
    | 'onUnknown'
    | 'priority'
    | 'metadata'
    | 'pauseOnFailure'
  >
> & {
  readonly window?: CampaignInput['window'] | null;
  readonly rate?: CampaignInput['rate'] | null;
};

const UPDATABLE: readonly string[] = [
  'name',
  'content',
  'recurrence',
  'window',
  'rate',
  'concurrency',
  'retry',
  'onUnknown',
  'priority',
  'metadata',
  'pauseOnFailure',
] satisfies (keyof CampaignUpdate)[];

/** Checks an update together with what stays, and says what is to be written. Runs that are open keep their own copy. */
export function updateOf(
  campaign: CampaignDoc,
  update: CampaignUpdate,
  context: { readonly now: Date; readonly messengers: Readonly<Record<string, Messenger>> },
): NonNullable<CampaignChange['fields']> {
  const { now } = context;
  if (!isPlainObject(update)) {
    const message = expectation('update', 'an object', update);
    throw new ValidationError('invalid_campaign', 'Invalid update', [{ path: '(input)', message }]);
  }
  // What is named without a value stays as it is.
  const given: Record<string, unknown> = Object.fromEntries(
    Object.entries(update).filter(([, value]) => value !== undefined),
  );
  const { limits, schedule } = campaign;
  const problems = Object.keys(given).flatMap((key) =>
    UPDATABLE.includes(key)
      ? []
      : [{ path: key, message: `Cannot change \`${key}\`. What can be changed: ${UPDATABLE.join(', ')}` }],
  );
  const recurs = schedule.recurrence !== undefined;
  for (const key of ['recurrence', 'pauseOnFailure']) {
    if (given[key] !== undefined && !recurs)
      problems.push({ path: key, message: `Cannot set \`${key}\`: this campaign runs once` });
  }
  if (problems.length > 0) throw new ValidationError('invalid_campaign', 'Invalid update', problems);
  const kept = (key: 'window' | 'rate'): unknown => {
    if (given[key] === null) return undefined;
    return given[key] ?? limits[key];
  };
  const { pauseOnFailure: _checkedAbove, ...rest } = given;
  const parsed = parseCampaign(
    {
      name: campaign.name,
      messenger: campaign.messenger,
      content: campaign.content,
      audience: [],
      concurrency: limits.concurrency,
      retry: limits.retry,
      onUnknown: limits.onUnknown,
      priority: campaign.priority,
      ...rest,
      window: kept('window'),
      rate: kept('rate'),
    } as CampaignInput,
    { now, messengers: context.messengers, sources: [] },
  );
  if (given.pauseOnFailure !== undefined && typeof given.pauseOnFailure !== 'boolean') {
    const message = expectation('pauseOnFailure', 'true or false', given.pauseOnFailure);
    throw new ValidationError('invalid_campaign', 'Invalid update', [{ path: 'pauseOnFailure', message }]);
  }
  return {
    name: parsed.name,
    content: { ...parsed.content },
    limits: parsed.limits,
    priority: parsed.priority,
    ...(parsed.metadata === undefined ? {} : { metadata: { ...parsed.metadata } }),
    ...(given.pauseOnFailure === undefined ? {} : { pauseOnFailure: given.pauseOnFailure }),
    ...(parsed.recurrence === undefined ? {} : newRule(campaign, parsed.recurrence, now)),
  };
}

/** The fields of a rule that takes another's place. */
function newRule(
  campaign: CampaignDoc,
  recurrence: Recurrence,
  now: Date,
): NonNullable<CampaignChange['fields']> {
  const { status, lastOccurrence = null, nextOccurrence = null, runsOpened = 0, leftOut = [] } = campaign;
  const before = campaign.schedule.recurrence;
  const due =
    before === undefined || status === 'draft'
      ? null
      : dueAtChange({
          rule: before,
          lastNominal: lastOccurrence,
          nextNominal: nextOccurrence,
          now,
          runsSoFar: runsOpened,
        });
  return {
    'schedule.recurrence': recurrence,
    runsOpened: 0,
    ...(due === null ? {} : { leftOut: [...leftOut, due] }),
    ...fromNowOn(campaign, recurrence, now),
  };
}

/** The fields of a rule that counts from now on: what is past is past. */
export function fromNowOn(
  campaign: CampaignDoc,
  rule: Recurrence,
  now: Date,
): NonNullable<CampaignChange['fields']> {
  const next = nextRinging(rule, now, campaign._id.toHexString());
  return {
    lastOccurrence: now,
    nextOccurrence: next?.nominal ?? null,
    nextRunAt: next?.ringAt ?? null,
  };
}
