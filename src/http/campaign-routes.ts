/**
 * Looking at campaigns, and giving orders to them. Invariant: nothing here decides; the scheduler refuses what cannot be.
 * Lists name no recipients, contents, metadata or parameters of sources; recipients are named under an action of its own.
 */
import type { Request, RequestHandler, Router } from 'express';
import type { By } from '../campaign-changes.ts';
import type { CampaignScheduler } from '../campaign-scheduler.ts';
import type { Campaign } from '../campaign-view.ts';
import type { Campaigns } from '../campaigns.ts';
import type { CampaignStatus } from '../core/campaign-machine.ts';
import { BREAKER_OPEN } from '../core/campaign-machine.ts';
import { describe } from '../core/recurrence-words.ts';
import type { RouterAction } from './guards.ts';
import { campaignIdOf, numberOf, queryOf, reasonOf } from './request-input.ts';

/** What the routes need of `scheduler.campaigns`. */
export type RoutedCampaigns = Pick<Campaigns, 'list' | 'pause' | 'resume' | 'cancel' | 'runNow' | 'failures'>;

export interface CampaignRoutesOptions {
  readonly scheduler: Pick<CampaignScheduler, 'why' | 'overview' | 'occurrences'> & {
    readonly campaigns: RoutedCampaigns;
  };
  /** The guards before a route that only reads, and before one that reads a body. */
  readonly reading: (action: RouterAction) => RequestHandler[];
  readonly ordering: (action: RouterAction) => RequestHandler[];
  /** Who sends the request; `undefined`: not known. */
  readonly identify: (request: Request) => string | undefined;
}

export function addCampaignRoutes(router: Router, options: CampaignRoutesOptions): void {
  const { scheduler, reading, ordering, identify } = options;
  const { campaigns } = scheduler;

  router.get('/campaigns', ...reading('read'), async (request, response) => {
    const { limit, filter } = listing(request);
    const found = await campaigns.list({ ...filter, limit });
    const last = found.at(-1);
    // Only a full page may have another after it; whether it has is asked for, so that the last page is known as the last.
    const more =
      last !== undefined && found.length === limit
        ? (await campaigns.list({ ...filter, after: last.id, limit: 1 })).length > 0
        : false;
    response.json({
      success: true,
      campaigns: found.map(listed),
      ...(more ? { next: last?.id } : {}),
    });
  });

  router.get('/campaigns/:id', ...reading('read'), async (request, response) => {
    const campaign = await scheduler.overview(campaignIdOf(request));
    response.json({ success: true, campaign: { ...campaign, ...statusWords(campaign) } });
  });

  router.get('/campaigns/:id/why', ...reading('read'), async (request, response) => {
    response.json({ success: true, why: await scheduler.why(campaignIdOf(request)) });
  });

  router.get('/campaigns/:id/occurrences', ...reading('read'), async (request, response) => {
    const id = campaignIdOf(request);
    queryOf(request, ['limit']);
    response.json({
      success: true,
      ...(await scheduler.occurrences(id, { limit: numberOf(request, 'limit') })),
    });
  });

  router.get('/campaigns/:id/failures', ...reading('failures'), async (request, response) => {
    const id = campaignIdOf(request);
    const { occurrence } = queryOf(request, ['occurrence', 'limit', 'samples']);
    const report = await campaigns.failures(id, {
      occurrence: occurrence as string | undefined, // checked where it is used
      limit: numberOf(request, 'limit'),
      samples: numberOf(request, 'samples'),
    });
    response.json({ success: true, ...report });
  });

  const order = (action: RouterAction, give: (id: string, by: By) => Promise<Campaign>): void => {
    router.post(`/campaigns/:id/${action}`, ...ordering(action), async (request, response) => {
      const id = campaignIdOf(request);
      const reason = reasonOf(request);
      const by = identify(request);
      const campaign = await give(id, {
        ...(by === undefined ? {} : { by }),
        ...(reason === undefined ? {} : { reason }),
      });
      response.json({ success: true, campaign: listed(campaign) });
    });
  };
  order('pause', (id, by) => campaigns.pause(id, by));
  order('resume', (id, by) => campaigns.resume(id, by));
  order('cancel', (id, by) => campaigns.cancel(id, by));
  order('run-now', (id, by) => campaigns.runNow(id, by));
}

const LIMIT = 100;

function listing(request: Request) {
  const { status, name, after } = queryOf(request, ['status', 'name', 'after', 'limit']);
  const limit = numberOf(request, 'limit') ?? LIMIT;
  // All is checked where it is used; what a query repeats comes as a list and is refused there like any other kind.
  const filter = {
    ...(status === undefined ? {} : { status: status as CampaignStatus }),
    ...(name === undefined ? {} : { name: name as string }),
    ...(after === undefined ? {} : { after: after as string }),
  };
  return { limit, filter };
}

/** What a list shows of a campaign. */
function listed(campaign: Campaign) {
  const { id, name, status, statusReason, sendAt, recurrence, nextRunAt, messenger, priority } = campaign;
  return {
    id,
    name,
    status,
    ...(statusReason === undefined ? {} : { statusReason }),
    ...statusWords(campaign),
    sendAt,
    ...(recurrence === undefined ? {} : { schedule: describe(recurrence) }),
    nextRunAt,
    messenger,
    priority,
    createdAt: campaign.createdAt,
    updatedAt: campaign.updatedAt,
  };
}

/** Of a paused one: why, as a sentence, and the error that did it, null where it was none. */
function statusWords({ status, statusReason }: Pick<Campaign, 'status' | 'statusReason'>) {
  if (status !== 'paused') return {};
  const { code, by, detail, messenger, openedBy } = statusReason ?? {};
  const isError = code === BREAKER_OPEN || code === 'run_failed';
  const because = detail === undefined ? '' : `: ${detail}`;
  let message = `Paused by ${by ?? 'user'}${because}`;
  if (code === BREAKER_OPEN) {
    message =
      openedBy === undefined
        ? `Paused because the messenger \`${messenger}\` does not work; it goes on by itself when the messenger works again`
        : `Paused because ${openedBy} opened the breaker of the messenger \`${messenger}\`; it goes on when somebody closes it`;
  }
  return { status_message: message, status_error: isError ? (detail ?? null) : null };
}
