/**
 * Orders of a person, and what each does to a page. Pure: `applyOrder` changes the page value only; the holder writes it
 * together with the page's order number, so an order acts on a page exactly once.
 */
import { DEATHS_TO_PARK, QUARANTINED } from './crash-loop.ts';
import type { Detail, LedgerPage } from './ledger-page.ts';

export type Resolution = 'sent' | 'failed' | 'resend';

export type OrderKind =
  | { readonly kind: 'cancel' }
  | { readonly kind: 'retry-failed' }
  | { readonly kind: 'resolve-unknown'; readonly resolution: Resolution }
  | { readonly kind: 'release-parked' };

/** Which recipients an order is about: all, or some named by page number and position. */
export type OrderTargets = 'all' | readonly { readonly n: number; readonly indices: readonly number[] }[];

export type Order = OrderKind & {
  readonly n: number;
  readonly runId: string;
  readonly targets: OrderTargets;
  /** Server time, ms since the epoch: outcomes recorded after it are not touched. */
  readonly at: number;
  readonly by?: string;
};

/**
 * Two workers know the server's time within milliseconds, under load within tens of them. An outcome that a person saw and
 * then gave an order about must not count as later than the order because of that; one that is a little later may be meant.
 */
export const CLOCK_TOLERANCE_MS = 1000;

/** Does it make anything go out? Then the run has to be opened again. */
export function orderSends(order: OrderKind): boolean {
  return order.kind === 'retry-failed' || order.kind === 'release-parked' || isResend(order);
}

function isResend(order: OrderKind): boolean {
  return order.kind === 'resolve-unknown' && order.resolution === 'resend';
}

/** Is it about this run? A cancellation is about every open run of the campaign. */
export function concerns(order: Order, runId: string): boolean {
  return order.kind === 'cancel' || order.runId === runId;
}

/**
 * Applies one order to a page. `unsettled` are the recipients whose earlier hand-over may still be under way: a resend or
 * another round of these waits until that has been counted.
 */
export function applyOrder(page: LedgerPage, n: number, order: Order, unsettled: ReadonlySet<number>): void {
  const targets = order.targets === 'all' ? undefined : order.targets.find((target) => target.n === n);
  if (order.targets !== 'all' && targets === undefined) return;
  const chosen = (indices: number[]): number[] =>
    indices.filter(
      (index) =>
        recordedAt(page, index) <= order.at + CLOCK_TOLERANCE_MS &&
        (targets?.indices.includes(index) ?? true),
    );
  const mayBeUnderWay = (index: number): boolean =>
    unsettled.has(index) && page.detail(index)?.token !== undefined;
  /** The same round goes on: attempts and idempotency key stay what they are. */
  const sendAgain = (index: number, more: Detail = {}): void => {
    if (mayBeUnderWay(index)) {
      const detail = { ...onlyToken(page, index), settle: 'resend' as const, ...more };
      page.set(index, 'unsettled', page.at(index), detail);
    } else page.set(index, 'retrying', page.at(index), { dueAt: 0, code: 'resend', ...more });
  };

  switch (order.kind) {
    case 'cancel':
      for (const index of page.indices('pending', 'retrying')) {
        page.set(index, 'skipped', order.at, { code: 'cancelled' });
      }
      for (const index of page.indices('unsettled')) {
        page.set(index, 'unknown', order.at, onlyToken(page, index));
      }
      return;
    case 'retry-failed':
      for (const index of chosen(page.indices('failed'))) {
        if (!mayBeUnderWay(index)) page.renew(index, order.n, order.at);
        else page.renewLater(index, order.n, { ...onlyToken(page, index), settle: 'retry' });
      }
      return;
    case 'resolve-unknown':
      for (const index of chosen(page.indices('unknown'))) {
        if (order.resolution === 'sent') page.set(index, 'sent', order.at, { code: 'resolved' });
        else if (order.resolution === 'failed') {
          page.set(index, 'failed', order.at, { ...onlyToken(page, index), code: 'resolved' });
        } else sendAgain(index);
      }
      return;
    case 'release-parked':
      // The page goes on as it is; its holder starts the count of deaths anew. Who was put aside is handed over alone
      // again, and one more death is enough: each costs a worker.
      for (const index of chosen(page.indices('unknown'))) {
        if (page.detail(index)?.code === QUARANTINED) sendAgain(index, { deaths: DEATHS_TO_PARK - 1 });
      }
      return;
  }
}

/** A doubt begins later than the intent it is about. */
function recordedAt(page: LedgerPage, index: number): number {
  return page.detail(index)?.since ?? page.at(index);
}

function onlyToken(page: LedgerPage, index: number): { token?: string } {
  const token = page.detail(index)?.token;
  return token === undefined ? {} : { token };
}
