/** What is told of recipients whose outcomes were just made durable. */
import type { LedgerPage } from '../core/ledger-page.ts';
import type { Recipient } from '../core/recipient.ts';
import type { DeliveryEvent } from '../events.ts';

/** Those of them that have an outcome. */
export function deliveriesOf(
  page: LedgerPage,
  recipients: readonly Recipient[],
  indices: Iterable<number>,
): DeliveryEvent[] {
  const deliveries: DeliveryEvent[] = [];
  for (const index of indices) {
    const recipient = recipients[index];
    const state = page.state(index);
    if (recipient === undefined || state === 'pending' || state === 'sending') continue;
    const { providerId, code, reason, dueAt } = page.detail(index) ?? {};
    deliveries.push({
      recipientId: recipient.id,
      state,
      attempts: page.attempts(index),
      at: new Date(page.at(index)),
      ...(providerId === undefined ? {} : { providerId }),
      ...(code === undefined ? {} : { code }),
      ...(reason === undefined ? {} : { reason }),
      ...(dueAt === undefined || state !== 'retrying' ? {} : { dueAt: new Date(dueAt) }),
    });
  }
  return deliveries;
}
