/** What the rounds of kill.test.ts try: which steps, in which order, by which campaigns. Pure: chance in, plans out. */
import type { OnUnknown } from '../../src/index.ts';
import type { KillPlan, StepName } from './kill-steps.ts';
import type { MessengerName } from './providers.ts';
import type { Chance } from './random.ts';

/** Killed by the test after so many ms of work. */
export interface TimedKill {
  readonly afterMs: number;
}
export type Kill = KillPlan | TimedKill;

/**
 * `send`: a list, from its opening to its end. `source`: the worker freezes a named source first. `create`: the worker that
 * dies creates the campaigns. `retry`: failed ones are retried after the end. `cancel`: cancelled half-way. `resolve`:
 * what a crash left unknown is sent again by order of a person. `recur`: a rule of every second, for a few of them.
 */
export type Scenario = 'send' | 'source' | 'create' | 'retry' | 'cancel' | 'resolve' | 'recur';

/** Runs of a campaign that recurs. */
export const RUNS = 4;

export interface CampaignPlan {
  readonly messenger: MessengerName;
  readonly onUnknown: OnUnknown;
  readonly count: number;
  readonly concurrency: number;
}

export interface Round {
  readonly scenario: Scenario;
  /** Another worker lives all the time; otherwise one is started after the last death. */
  readonly company: boolean;
  readonly kills: readonly Kill[];
  readonly campaigns: readonly CampaignPlan[];
  /** The order is about some recipients by name. */
  readonly named: boolean;
}

type Draw = readonly [StepName | 'at any command', number];
interface Named {
  readonly scenario: Scenario;
  readonly kills: readonly Draw[];
  readonly onUnknown?: OnUnknown;
  readonly named?: boolean;
}

const MID_SEND: Draw = ['after the messenger accepted', 40];
const around = (step: string): StepName[] => [`before ${step}` as StepName, `after ${step}` as StepName];
const each = (
  scenario: Scenario,
  steps: readonly string[],
  most: number,
  more: Partial<Named> = {},
): Named[] =>
  steps.flatMap((step) =>
    around(step).map((name) => ({
      scenario,
      ...more,
      kills: [...(more.kills ?? []), [name, most] as Draw],
    })),
  );

/** Every named step, each as the last death of a round. The numbers are occurrences that every round of its kind has. */
export const NAMED: readonly Named[] = [
  ...each('send', ['an intent', 'an outcome'], 6),
  { scenario: 'send', kills: [MID_SEND] },
  ...each('send', ['claiming', 'the end of a page'], 3),
  ...each('send', ['opening the campaign', 'inserting the run'], 2),
  ...each('send', ['inserting ledger pages', 'adopting the audience'], 2),
  ...each('send', ['closing the run', 'closing the campaign'], 2),
  ...each('source', ['freezing a page', 'the end of freezing', 'adopting the audience'], 2),
  ...each('create', ['freezing a page', 'the end of freezing', 'inserting a campaign'], 2),
  ...each('send', ['taking over'], 1, { kills: [MID_SEND] }),
  ...each('send', ['settling'], 1, { kills: [MID_SEND], onUnknown: 'resend' }),
  ...each('send', ['settling'], 1, { kills: [MID_SEND], onUnknown: 'reconcile' }),
  { scenario: 'send', kills: [MID_SEND, ['while the messenger is asked', 1]], onUnknown: 'reconcile' },
  ...each('send', ['a flush while the messenger is asked'], 1, { kills: [MID_SEND], onUnknown: 'reconcile' }),
  ...each('retry', ['giving an order', 'copying an order'], 2),
  ...each('retry', ['applying an order'], 3),
  ...each('retry', ['numbering the other pages'], 2, { named: true }),
  ...each('cancel', ['copying an order', 'applying an order', 'closing the run', 'closing the campaign'], 1),
  ...each('resolve', ['copying an order'], 2),
  ...each('resolve', ['applying an order'], 1),
  ...each('recur', ['writing an occurrence', 'inserting the run', 'setting the alarm again'], 3),
];

const SCENARIOS: readonly Scenario[] = [
  'send',
  'send',
  'send',
  'source',
  'retry',
  'cancel',
  'resolve',
  'recur',
];
const POLICIES: readonly OnUnknown[] = ['hold', 'hold', 'resend', 'reconcile', 'give-up'];
/** Who was given up counts as failed: retrying the failed ones may then send to somebody again, as it should. */
const POLICIES_TO_RETRY = POLICIES.filter((policy) => policy !== 'give-up');

/** Of so many rounds, so many try a named step; the others are left to chance. */
const CYCLE = 6;
const NAMED_OF_CYCLE = 5;
/** After so many rounds every named step was tried. */
export const FULL_ROUNDS = Math.ceil(NAMED.length / NAMED_OF_CYCLE) * CYCLE;

export function draw(index: number, random: Chance, campaigns: number): Round {
  const place = index % CYCLE;
  const position = NAMED_OF_CYCLE * Math.floor(index / CYCLE) + place;
  const named = place < NAMED_OF_CYCLE ? NAMED[position % NAMED.length] : undefined;
  const scenario = named?.scenario ?? random.pick(SCENARIOS);
  const onUnknown = (): OnUnknown =>
    scenario === 'resolve'
      ? 'hold'
      : (named?.onUnknown ?? random.pick(scenario === 'retry' ? POLICIES_TO_RETRY : POLICIES));
  return {
    scenario,
    // A step that any worker may take is taken by the one that dies only when it is alone.
    company: named === undefined && random.percent(50),
    kills:
      named === undefined
        ? Array.from({ length: random.between(1, 3) }, () => anyInstant(random))
        : named.kills.map(([step, most]) => ({ step, occurrence: random.between(1, most) })),
    campaigns: Array.from({ length: campaigns }, () => campaign(onUnknown(), scenario, random)),
    named: named?.named ?? random.percent(30),
  };
}

function anyInstant(random: Chance): Kill {
  return random.percent(50)
    ? { afterMs: random.between(0, 500) }
    : { step: 'at any command', occurrence: random.between(20, 250) };
}

function campaign(onUnknown: OnUnknown, scenario: Scenario, random: Chance): CampaignPlan {
  const deduping = onUnknown === 'resend' || onUnknown === 'reconcile';
  // A campaign that is to be cancelled half-way must not be over before.
  const messengers: readonly MessengerName[] =
    scenario === 'cancel' ? ['ambiguous', 'slow'] : ['instant', 'short', 'ambiguous', 'slow'];
  return {
    messenger: deduping ? 'deduping' : random.pick(messengers),
    onUnknown,
    count: scenario === 'recur' ? random.between(10, 20) : random.between(60, 120),
    concurrency: scenario === 'cancel' ? 2 : random.between(3, 10),
  };
}
