/**
 * Listing campaigns, a page at a time in the order of creation. Invariant: every problem of a filter is reported at once,
 * and nothing is read before; only campaigns that are ours are listed.
 */
import { type Campaign, viewOf } from './campaign-view.ts';
import { CAMPAIGN_STATUSES, type CampaignStatus } from './core/campaign-machine.ts';
import { expectation, integerProblems, refuseProblems } from './input-checks.ts';
import { listCampaigns, parseId } from './store/campaigns.ts';
import type { Store } from './store/store.ts';

const MAX_LISTED = 1000;

export interface CampaignFilter {
  readonly status?: CampaignStatus;
  readonly name?: string;
  /** The id of the last one of the answer before. */
  readonly after?: string;
  /** 1 to 1000. Default: 100. */
  readonly limit?: number;
}

/** @throws ValidationError `invalid_options` with every problem. */
export async function listedCampaigns(store: Store, filter: CampaignFilter): Promise<Campaign[]> {
  const { status, name, after, limit = 100 } = filter;
  const position = after === undefined ? undefined : parseId(String(after));
  const problems = integerProblems('limit', limit, 1, MAX_LISTED);
  const expect = (fits: boolean, path: string, what: string, value: unknown): void => {
    if (!fits) problems.push({ path, message: expectation(path, what, value) });
  };
  const statuses = CAMPAIGN_STATUSES.join(', ');
  expect(status === undefined || CAMPAIGN_STATUSES.includes(status), 'status', `one of ${statuses}`, status);
  expect(name === undefined || typeof name === 'string', 'name', 'text', name);
  expect(after === undefined || position !== undefined, 'after', 'the id of a campaign', after);
  refuseProblems('Campaigns cannot be listed', problems);
  const found = await listCampaigns(
    store,
    {
      ...(status === undefined ? {} : { status }),
      ...(name === undefined ? {} : { name }),
      ...(position === undefined ? {} : { after: position }),
    },
    limit,
  );
  return found.map(viewOf);
}
