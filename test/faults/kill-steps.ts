/**
 * The named steps at which a worker ends itself, recognised by the commands it sends and by what its messenger does.
 * Nothing in the product knows of them: the driver tells of a command before its bytes are written, and of an answer
 * before anybody waiting for it goes on, and SIGKILL to oneself takes effect at that very place.
 */
import type { Document } from 'mongodb';
import type { Connection } from 'mongoose';

type Part = 'before' | 'after';
/** Steps of a command are named twice: killed before it is written, and after it was answered. */
export type StepName = `${Part} ${CommandStep}` | MessengerStep;
export type MessengerStep = 'after the messenger accepted' | 'while the messenger is asked';

export interface KillPlan {
  readonly step: StepName | 'at any command';
  /** At which occurrence, from 1. */
  readonly occurrence: number;
}

/** What a worker remembers of its pages, to tell the first flush of something. */
class Memory {
  readonly unsettled = new Set<string>();
  readonly orderNo = new Map<string, number>();
  asking = false;
}

interface Flush {
  readonly pageId: string;
  readonly set: Document;
  readonly unset: Document;
}

function flushOf(command: Document): Flush | undefined {
  if (command.update !== 'ledger_pages') return undefined;
  const { q, u } = (command.updates as Document[])[0] ?? {};
  if (q?.['claim.token'] === undefined || u?.$set?.states === undefined) return undefined;
  return { pageId: q._id, set: u.$set, unset: u.$unset ?? {} };
}

const updateOf = (command: Document, collection: string): Document | undefined => {
  if (command.findAndModify === collection) return command.update;
  if (command.update !== collection) return undefined;
  return (command.updates as Document[])[0]?.u;
};
const flushes =
  (matches: (flush: Flush, memory: Memory) => boolean) =>
  (command: Document, memory: Memory): boolean => {
    const flush = flushOf(command);
    return flush !== undefined && matches(flush, memory);
  };
const updates = (collection: string, matches: (update: Document) => boolean) => (command: Document) => {
  const update = updateOf(command, collection);
  return update !== undefined && !Array.isArray(update) && matches(update);
};
/** What Agenda writes when a handler has returned the time of the next ringing. */
const isEndOfRinging = (update: unknown): boolean => {
  const { lockedAt, nextRunAt } = (update as Document[])[0]?.$set ?? {};
  return lockedAt === null && nextRunAt instanceof Date;
};
const inserts = (collection: string) => (command: Document) => command.insert === collection;

const COMMANDS = {
  'an intent': flushes(({ set }) => String(set.states).includes('>')),
  'an outcome': flushes(({ set }) => String(set.states).includes('s')),
  'the end of a page': flushes(({ set }) => set.status === 'done'),
  'giving a page back': flushes(({ set }) => set.status === 'pending' || set.status === 'waiting'),
  claiming: (command: Document) =>
    command.findAndModify === 'ledger_pages' && command.query?.runId !== undefined,
  'freezing a page': inserts('audience_pages'),
  'the end of freezing': updates('audiences', (update) => update.$set?.state === 'ready'),
  'inserting a campaign': inserts('campaigns'),
  'inserting ledger pages': inserts('ledger_pages'),
  'adopting the audience': updates(
    'campaign_runs',
    (update) => update.$set?.audienceId !== undefined && update.$set.status === 'sending',
  ),
  'taking over': (command: Document) =>
    command.findAndModify === 'ledger_pages' && command.query?.['claim.token'] !== undefined,
  settling: flushes(
    ({ pageId, set, unset }, memory) =>
      set.unsettled === undefined && 'unsettled' in unset && memory.unsettled.has(pageId),
  ),
  'a flush while the messenger is asked': flushes((_, memory) => memory.asking),
  'copying an order': updates('campaign_runs', (update) => update.$push?.orders !== undefined),
  'numbering the other pages': (command: Document) =>
    command.update === 'ledger_pages' && (command.updates as Document[])[0]?.multi === true,
  'applying an order': flushes(
    ({ pageId, set }, memory) => Number(set.orderNo) > (memory.orderNo.get(pageId) ?? 0),
  ),
  'telling a late truth': (command: Document) =>
    command.findAndModify === 'ledger_pages' && command.update?.$push?.late !== undefined,
  'merging a late truth': (command: Document) =>
    command.update === 'ledger_pages' && (command.updates as Document[])[0]?.q?.late !== undefined,
  'opening the campaign': updates('campaigns', (update) => update.$set?.openRuns !== undefined),
  'inserting the run': inserts('campaign_runs'),
  'writing an occurrence': updates(
    'campaigns',
    (update) => update.$set?.nextOccurrence !== undefined && update.$push?.openRuns !== undefined,
  ),
  'setting the alarm again': (command: Document) =>
    command.update === 'agendaJobs' && isEndOfRinging((command.updates as Document[])[0]?.u),
  'giving an order': updates('campaigns', (update) => update.$set?.order !== undefined),
  'closing the run': updates('campaign_runs', (update) => update.$set?.report !== undefined),
  'closing the campaign': updates('campaigns', (update) => update.$pull?.openRuns !== undefined),
} as const satisfies Record<string, (command: Document, memory: Memory) => boolean>;

export type CommandStep = keyof typeof COMMANDS;

export interface Killer {
  /** A step of the messenger is reached. */
  reached(step: MessengerStep): void;
  /** The messenger is being asked, or has answered. */
  asking(now: boolean): void;
}

/** Arms the plan. `kill` does not return. */
export function armKiller(
  connection: Connection,
  plan: KillPlan | undefined,
  kill: (step: string) => void,
): Killer {
  const memory = new Memory();
  const part = plan?.step.slice(0, plan.step.indexOf(' '));
  const name = plan?.step.slice((part?.length ?? 0) + 1) as CommandStep;
  const matches = plan === undefined || plan.step === 'at any command' ? undefined : COMMANDS[name];
  const answering = new Set<number>();
  let count = 0;
  const hit = (): void => {
    count += 1;
    if (count === plan?.occurrence) kill(plan.step);
  };
  const client = connection.getClient();
  client.on('commandStarted', ({ command, requestId }) => {
    if (plan?.step === 'at any command') hit();
    if (matches?.(command, memory) === true) {
      if (part === 'before') hit();
      else answering.add(requestId);
    }
    remember(memory, command);
  });
  client.on('commandSucceeded', ({ requestId }) => {
    if (plan?.step === 'at any command') hit();
    if (answering.delete(requestId)) hit();
  });
  return {
    reached: (step) => {
      if (plan?.step === step) hit();
    },
    asking: (now) => {
      memory.asking = now;
    },
  };
}

function remember(memory: Memory, command: Document): void {
  const flush = flushOf(command);
  if (flush !== undefined) {
    memory.orderNo.set(flush.pageId, Number(flush.set.orderNo));
    if (flush.set.unsettled !== undefined) memory.unsettled.add(flush.pageId);
    else memory.unsettled.delete(flush.pageId);
  } else if (command.findAndModify === 'ledger_pages' && command.update?.$set?.unsettled) {
    memory.unsettled.add(command.query?._id);
  }
}
