/**
 * Claims the next page of an open run, in the order that suits: pages whose retries are due, that an order has not reached,
 * that nobody has touched; where hours are by the recipients' own zones, of the zones that are open. Invariant: what was
 * looked for and not found is not looked for again until a look says so.
 */
import type { LedgerPageDoc } from '../store/documents.ts';
import { type ClaimKind, claimPage } from '../store/ledger-claims.ts';
import { type HoldEnvironment, newClaim } from './hold-environment.ts';
import { type OpenRun, sizeNow } from './open-runs.ts';

/**
 * `only-orders`: nothing may be sent, only pages that an order has not reached are claimed. `trial`: whoever failed before
 * comes last, because one recipient that makes the messenger fail must not end each trial.
 */
export type ClaimPurpose = 'only-orders' | 'send' | 'trial';

const KINDS: Readonly<Record<ClaimPurpose, readonly ClaimKind[]>> = {
  'only-orders': ['behind'],
  send: ['due', 'behind', 'pending'],
  trial: ['behind', 'pending', 'due'],
};

/** Null: there is none. */
export async function claimNextPage(
  env: HoldEnvironment,
  entry: OpenRun,
  purpose: ClaimPurpose,
): Promise<LedgerPageDoc | null> {
  const size = sizeNow(entry, env.serverNow());
  if (size === undefined) return null;
  for (const kind of KINDS[purpose]) {
    if (!entry.hints[kind]) continue;
    const groups =
      kind === 'pending' && size.zones !== undefined ? entry.zonesToTry.groups(size.zones) : [undefined];
    for (const zones of groups) {
      const those = zones === undefined ? size : { ...size, zones };
      const page = await claimPage(env.store, those, kind, newClaim(env), env.serverNow());
      if (page !== null) return page;
      if (zones !== undefined) entry.zonesToTry.foundNone(zones);
    }
    entry.hints[kind] = false;
  }
  return null;
}
