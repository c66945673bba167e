/** What the holds of a worker share, what the holds of one run in it share, and what a hold begins with. */
import { randomUUID } from 'node:crypto';
import type { LimitFunction } from 'p-limit';
import type { Clock } from '../clock.ts';
import type { Recipient } from '../core/recipient.ts';
import type { DeliveryEvent } from '../events.ts';
import type { Logger } from '../logger.ts';
import type { Message } from '../messengers/messenger.ts';
import type { AudiencePageDoc, Claim, LedgerPageDoc, RunDoc } from '../store/documents.ts';
import type { Store } from '../store/store.ts';
import type { RateGate } from './rate-gate.ts';
import type { RunHours } from './send-hours.ts';
import { idempotencyKey } from './sends.ts';
import type { Slots } from './slots.ts';

/** Well below the connections that the driver opens (100), and enough for the server to make many durable with one sync. */
export const FLUSHES_AT_ONCE = 32;

export interface HoldEnvironment {
  readonly store: Store;
  readonly clock: Clock;
  readonly serverNow: () => Date;
  readonly random: () => number;
  readonly logger: Logger;
  readonly workerId: string;
  readonly claimTtlMs: number;
  readonly claimMarginMs: number;
  readonly sendTimeoutMs: number;
  /**
   * Gives the pages of this worker their turns to write. All of them have something to write all the time; what they would
   * queue up at the server, claims and looks would have to wait for. Who waits for its turn writes more at once.
   */
  readonly inTurn: LimitFunction;
  /** One place: for the one recipient in flight that may be what stops its workers. */
  readonly suspectPlace: Slots;
  /** Late truths that are being told, also of pages that are no longer held: a stop waits for them. */
  readonly telling: Set<Promise<void>>;
  /** The scheduler has stopped: nothing is written any more. */
  readonly stopped: () => boolean;
  /** Called after a page was written; `recorded`: of how many what became of them is durable now. */
  readonly onFlushed: (recorded: number) => void;
  /** Called after outcomes are durable. */
  readonly onRecorded: (run: RunDoc, deliveries: readonly DeliveryEvent[]) => void;
  /** Called after it is durable that these were put aside, because they stop their workers. */
  readonly onQuarantined: (run: RunDoc, deliveries: readonly DeliveryEvent[]) => void;
  /** Does anybody listen to single deliveries? */
  readonly wantsDeliveries: () => boolean;
}

/** A claim that is about to be written. */
export function newClaim({ workerId, claimTtlMs, sendTimeoutMs }: HoldEnvironment): Claim {
  return { token: randomUUID(), seq: 0, workerId, ttlMs: claimTtlMs, sendTimeoutMs };
}

export type ClaimedPage = LedgerPageDoc & { readonly claim: Claim };
/** Who is on the page. */
export type HeldAudience = Pick<AudiencePageDoc, 'recipients' | 'bytes' | 'timezone'>;

export interface HeldRun {
  /** The run as last read: its orders may grow while pages are held. */
  doc: RunDoc;
  /** Id of the recipient that was handed over last in this worker. */
  lastRecipient: string | undefined;
  /** What every message of it says of campaign and run. */
  readonly about: Pick<Message, 'campaign' | 'run'>;
  /** Sends in flight of this run in this worker. */
  readonly sends: Slots;
  /** Recipients of this run with an intent whose outcome is not recorded, in this worker. */
  readonly window: Slots;
  /** The campaign's rate, shared with all servers; undefined: it has none. */
  readonly rate: RateGate | undefined;
  /** The hours in which it may send; undefined: always. */
  readonly hours: RunHours | undefined;
}

/** What is told of a run that pages are held of. */
export interface HeldRunBeat {
  readonly runId: string;
  /** The one handed over last here; null: nobody yet. */
  readonly recipient: string | null;
}

/** Both clocks at one moment. Trust ends by whichever is earlier: one stops in a suspended machine, the other can jump. */
export interface Moment {
  readonly monotonic: number;
  readonly wall: number;
}

export const momentOf = (clock: Clock): Moment => ({
  monotonic: clock.monotonic(),
  wall: clock.now().getTime(),
});

export function messageFor(run: HeldRun, recipient: Recipient, generation: number, attempt: number): Message {
  const { doc, about } = run;
  return {
    ...about,
    recipient,
    content: doc.content,
    idempotencyKey: idempotencyKey(doc._id, recipient, generation),
    attempt,
  };
}
