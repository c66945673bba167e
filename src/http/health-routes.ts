/**
 * Is this process, the cluster, a campaign well? Invariant: only looks, and each look is bounded; what is sick is said with
 * the reason, and 503 only where the process cannot do its work. Recipients are named to nobody who may not see failures.
 */
import type { Request, RequestHandler, Router } from 'express';
import type { CampaignHealth } from '../campaign-health.ts';
import type { CampaignScheduler } from '../campaign-scheduler.ts';
import type { RouterAction } from './guards.ts';
import { campaignIdOf, numberOf, queryOf } from './request-input.ts';

export interface HealthRoutesOptions {
  readonly scheduler: Pick<CampaignScheduler, 'serviceHealth' | 'versions' | 'workers' | 'health'>;
  readonly reading: (action: RouterAction) => RequestHandler[];
  /** May this request see who the recipients are? */
  readonly mayName: (request: Request) => Promise<boolean>;
}

export function addHealthRoutes(router: Router, { scheduler, reading, mayName }: HealthRoutesOptions): void {
  router.get('/health', ...reading('health'), async (_request, response) => {
    const health = await scheduler.serviceHealth();
    response.status(health.status === 'unhealthy' ? 503 : 200).json(health);
  });

  router.get('/version', ...reading('health'), async (_request, response) => {
    response.json({ success: true, ...(await scheduler.versions()) });
  });

  router.get('/campaigns/:id/health', ...reading('read'), async (request, response) => {
    const health = await scheduler.health(campaignIdOf(request));
    response.json({ success: true, health: (await mayName(request)) ? health : nameless(health) });
  });

  router.get('/campaigns-health', ...reading('read'), async (request, response) => {
    const { after } = queryOf(request, ['limit', 'after']);
    const list = await scheduler.health({
      limit: numberOf(request, 'limit'),
      after: after as string | undefined, // checked where it is used
    });
    response.json({ success: true, ...list, campaigns: list.campaigns.map(nameless) });
  });

  router.get('/workers', ...reading('read'), async (request, response) => {
    queryOf(request, ['limit']);
    const workers = await scheduler.workers({ limit: numberOf(request, 'limit') });
    response.json({ success: true, workers });
  });
}

/** Without the recipient who is next. */
function nameless({ heartbeat, ...health }: CampaignHealth) {
  if (heartbeat === null) return { ...health, heartbeat };
  const { recipient: _, ...shown } = heartbeat;
  return { ...health, heartbeat: shown };
}
