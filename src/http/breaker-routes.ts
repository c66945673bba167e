/** Looking at the breakers of the messengers, and orders to them. Invariant: nothing here decides. */
import type { Request, RequestHandler, Router } from 'express';
import type { BreakerStatus } from '../breakers.ts';
import type { By } from '../campaign-changes.ts';
import type { CampaignScheduler } from '../campaign-scheduler.ts';
import type { RouterAction } from './guards.ts';
import { reasonOf } from './request-input.ts';

export interface BreakerRoutesOptions {
  readonly scheduler: Pick<CampaignScheduler, 'breakers'>;
  /** The guards before a route that only reads, and before one that reads a body. */
  readonly reading: RequestHandler[];
  readonly ordering: (action: RouterAction) => RequestHandler[];
  /** Who sends the request; `undefined`: not known. */
  readonly identify: (request: Request) => string | undefined;
}

export function addBreakerRoutes(router: Router, options: BreakerRoutesOptions): void {
  const { scheduler, reading, ordering, identify } = options;

  router.get('/queue-management/status', ...reading, async (_request, response) => {
    const status = await scheduler.breakers.status();
    const data = Object.fromEntries(Object.entries(status).map(([name, one]) => [name, shown(one)]));
    response.json({ success: true, data });
  });

  for (const order of ['open', 'close', 'reset'] as const) {
    const guards = ordering(`${order}-breaker`);
    router.post(`/queue-management/:messenger/${order}`, ...guards, async (request, response) => {
      const reason = reasonOf(request);
      const who = identify(request);
      const by: By = {
        ...(who === undefined ? {} : { by: who }),
        ...(reason === undefined ? {} : { reason }),
      };
      const status = await scheduler.breakers[order](String(request.params.messenger), by);
      response.json({ success: true, data: shown(status) });
    });
  }
}

function shown({ state, detail, openedAt, nextProbeAt, manual, failures, campaignsPaused }: BreakerStatus) {
  return {
    circuit_state: state,
    pause_info:
      state === 'closed'
        ? null
        : { reason: detail, opened_by: manual?.by ?? 'breaker', until_closed_by_hand: manual !== null },
    failures,
    opened_at: openedAt,
    next_probe_at: nextProbeAt,
    campaigns_paused: campaignsPaused,
  };
}
