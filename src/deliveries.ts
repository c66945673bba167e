/**
 * Looking at single deliveries: the audience page says who, the ledger page says what became of them. Reads only, at most
 * one page of each at a time, so a look never grows with the audience.
 */
import { DELIVERY_STATES, type DeliveryState, LedgerPage } from './core/ledger-page.ts';
import type { Recipient } from './core/recipient.ts';
import type { Problem } from './errors.ts';
import { integerProblems, refuseProblems } from './input-checks.ts';
import { locateRecipients, readAudiencePage } from './store/audiences.ts';
import type { RunDoc } from './store/documents.ts';
import { pageIdOf } from './store/documents.ts';
import { decodePage, nextPageWith, readPage } from './store/ledger-pages.ts';
import type { Store } from './store/store.ts';
import { suggestionSentence } from './suggestion.ts';

/** One recipient within one run. */
export interface Delivery {
  readonly recipient: Recipient;
  readonly state: DeliveryState;
  /** Hand-overs begun. */
  readonly attempts: number;
  /** When it came to this state; null while nothing has happened. */
  readonly at: Date | null;
  /** What the provider called the message. */
  readonly providerId?: string;
  /** Short and machine-readable: an SMTP or HTTP code, `timeout`, `worker_lost`, `cancelled`, … */
  readonly code?: string;
  /** For people, at most 256 bytes. */
  readonly reason?: string;
  /** Of a retrying one: not before this instant. */
  readonly dueAt?: Date;
}

export interface DeliveryList {
  readonly deliveries: readonly Delivery[];
  /** Give it to the next call; absent: that was all. */
  readonly cursor?: string;
}

export interface ListDeliveriesOptions {
  /** Only these. Default: all. */
  readonly state?: DeliveryState | undefined;
  /** Which run. Default: `once`. */
  readonly occurrence?: string | undefined;
  /** 1 to 1000. Default: 100. */
  readonly limit?: number | undefined;
  /** From the answer before. */
  readonly cursor?: string | undefined;
}

const MAX_LIMIT = 1000;

export async function findDelivery(store: Store, run: RunDoc, recipientId: string): Promise<Delivery | null> {
  if (run.audienceId === undefined) return null;
  const place = (await locateRecipients(store, run.audienceId, [recipientId])).get(recipientId);
  if (place === undefined) return null;
  const [audience, ledger] = await Promise.all([
    readAudiencePage(store, run.audienceId, place.n),
    readPage(store, pageIdOf(run._id, place.n)),
  ]);
  const recipient = audience?.recipients[place.index];
  if (audience === null || recipient === undefined) return null;
  const page =
    ledger === null
      ? new LedgerPage(audience.recipients.length)
      : decodePage(ledger, audience.recipients.length);
  return deliveryAt(page, place.index, recipient);
}

export async function listDeliveries(
  store: Store,
  run: RunDoc,
  options: ListDeliveriesOptions,
): Promise<DeliveryList> {
  const { state, limit, from } = checked(options);
  const { audienceId } = run;
  const deliveries: Delivery[] = [];
  if (audienceId === undefined) return { deliveries };
  let { n, index } = from;
  for (;;) {
    const ledger = await nextPageWith(store, { runId: run._id, pages: run.pages ?? 0 }, n, state);
    if (ledger === null) return { deliveries };
    const audience = await readAudiencePage(store, audienceId, ledger.n);
    if (ledger.n !== n) index = 0;
    const recipients = audience?.recipients ?? [];
    const page = decodePage(ledger, recipients.length);
    for (; index < recipients.length; index += 1) {
      const recipient = recipients[index];
      if (recipient === undefined || (state !== undefined && page.state(index) !== state)) continue;
      if (deliveries.length === limit) return { deliveries, cursor: `${ledger.n}:${index}` };
      deliveries.push(deliveryAt(page, index, recipient));
    }
    n = ledger.n + 1;
    index = 0;
  }
}

function checked(options: ListDeliveriesOptions): {
  state: DeliveryState | undefined;
  limit: number;
  from: { n: number; index: number };
} {
  const { state, limit = 100, cursor } = options;
  const problems: Problem[] = [];
  if (state !== undefined && !DELIVERY_STATES.includes(state)) {
    problems.push({
      path: 'state',
      message: `Unknown state \`${String(state)}\`. ${suggestionSentence(String(state), DELIVERY_STATES, 'states')}`,
    });
  }
  problems.push(...integerProblems('limit', limit, 1, MAX_LIMIT));
  const place = cursor === undefined ? ['', '0', '0'] : /^(\d{1,9}):(\d{1,9})$/.exec(cursor);
  if (place === null)
    problems.push({ path: 'cursor', message: 'Expected `cursor` to come from an earlier answer' });
  refuseProblems('Deliveries cannot be listed', problems);
  return { state, limit, from: { n: Number(place?.[1]), index: Number(place?.[2]) } };
}

function deliveryAt(page: LedgerPage, index: number, recipient: Recipient): Delivery {
  const { providerId, code, reason, dueAt } = page.detail(index) ?? {};
  const at = page.at(index);
  return {
    recipient,
    state: page.state(index),
    attempts: page.attempts(index),
    at: at === 0 ? null : new Date(at),
    ...(providerId === undefined ? {} : { providerId }),
    ...(code === undefined ? {} : { code }),
    ...(reason === undefined ? {} : { reason }),
    ...(dueAt === undefined || page.state(index) !== 'retrying' ? {} : { dueAt: new Date(dueAt) }),
  };
}
