/** Looking at alerts, and acknowledging them. Invariant: nothing here decides; the scheduler refuses what cannot be. */
import type { Request, RequestHandler, Router } from 'express';
import type { ListAlertsOptions } from '../alerts.ts';
import type { CampaignScheduler } from '../campaign-scheduler.ts';
import type { RouterAction } from './guards.ts';
import { bodyOf, numberOf, queryOf } from './request-input.ts';

export interface AlertRoutesOptions {
  readonly scheduler: Pick<CampaignScheduler, 'alerts'>;
  /** The guards before a route that only reads, and before one that reads a body. */
  readonly reading: (action: RouterAction) => RequestHandler[];
  readonly ordering: (action: RouterAction) => RequestHandler[];
  /** Who sends the request; `undefined`: not known. */
  readonly identify: (request: Request) => string | undefined;
}

export function addAlertRoutes(router: Router, options: AlertRoutesOptions): void {
  const { scheduler, reading, ordering, identify } = options;

  router.get('/alerts', ...reading('read-alerts'), async (request, response) => {
    const query = queryOf(request, ['state', 'level', 'campaignId', 'limit', 'after']);
    // What a query repeats comes as a list and is refused where it is used, like any other kind.
    const filter = { ...query, limit: numberOf(request, 'limit') } as unknown as ListAlertsOptions;
    response.json({ success: true, ...(await scheduler.alerts.list(filter)) });
  });

  router.post('/alerts/:key/acknowledge', ...ordering('acknowledge-alert'), async (request, response) => {
    bodyOf(request, []);
    const by = identify(request) ?? 'user';
    const alert = await scheduler.alerts.acknowledge(String(request.params.key), { by });
    response.json({ success: true, alert });
  });
}
