/**
 * Is this process, the cluster, a campaign well? Invariant: only looks, and each look is bounded; what is sick is said with
 * the reason, and 503 only where the process cannot do its work.
 */
import type { RequestHandler, Router } from 'express';
import type { CampaignScheduler } from '../scheduler.ts';
import type { RouterAction } from './guards.ts';
import { campaignIdOf, numberOf, queryOf } from './request-input.ts';

export interface HealthRoutesOptions {
  readonly scheduler: Pick<CampaignScheduler, 'serviceHealth' | 'versions' | 'workers' | 'health'>;
  readonly reading: (action: RouterAction) => RequestHandler[];
}

export function addHealthRoutes(router: Router, { scheduler, reading }: HealthRoutesOptions): void {
  router.get('/health', ...reading('health'), async (_request, response) => {
    const health = await scheduler.serviceHealth();
    response.status(health.status === 'unhealthy' ? 503 : 200).json(health);
  });

  router.get('/version', ...reading('health'), async (_request, response) => {
    response.json({ success: true, ...(await scheduler.versions()) });
  });

  router.get('/campaigns/:id/health', ...reading('read'), async (request, response) => {
    response.json({ success: true, health: await scheduler.health(campaignIdOf(request)) });
  });

  router.get('/campaigns-health', ...reading('read'), async (request, response) => {
    const { after } = queryOf(request, ['limit', 'after']);
    const list = await scheduler.health({
      limit: numberOf(request, 'limit'),
      after: after as string | undefined, // checked where it is used
    });
    response.json({ success: true, ...list });
  });

  router.get('/workers', ...reading('read'), async (request, response) => {
    queryOf(request, ['limit']);
    const workers = await scheduler.workers({ limit: numberOf(request, 'limit') });
    response.json({ success: true, workers });
  });
}
