/**
 * The HTTP door to a scheduler, as an Express router the host mounts where it likes. Invariant: nothing is done for a
 * request that another site made a browser send, or that `authorize` has not answered with `true`; and every refusal is
 * JSON without a stack. The guards sit on the router's own routes only, so other paths of the host are untouched.
 */

import { createRequire } from 'node:module';
import type { Request, RequestHandler, Router } from 'express';
import type { CampaignScheduler } from '../campaign-scheduler.ts';
import { CampaignSchedulerError, ValidationError } from '../errors.ts';
import { type Logger, lineLogger } from '../logger.ts';
import type { SchedulePreviewInput } from '../preview-schedule.ts';
import { addAlertRoutes } from './alert-routes.ts';
import { addBreakerRoutes } from './breaker-routes.ts';
import { addCampaignRoutes, type RoutedCampaigns } from './campaign-routes.ts';
import {
  type Authorize,
  askFirst,
  isAllowed,
  keepNoCopy,
  type RouterAction,
  refuseOtherBodies,
  refuseOtherSites,
} from './guards.ts';
import { addHealthRoutes } from './health-routes.ts';
import { answerErrors, BODY_LIMIT } from './refusal.ts';
import { bodyOf, refuseNoObject } from './request-input.ts';

export type { RouterAction } from './guards.ts';

export interface CampaignRouterOptions {
  /**
   * Required. May this request do this? Only `true` lets it through: anything else is answered with 403, a throw with
   * 500. Called before the body is read.
   */
  readonly authorize: Authorize;
  /** Who sends this request, for status reasons and the journal (`paused by …`). Default: `user`. */
  readonly identify?: ((request: Request) => string | undefined) | undefined;
  /** Hears of unexpected errors, which the answer does not show. Default: readable lines on standard error. */
  readonly logger?: Logger | undefined;
}

/** What the router needs of a scheduler. */
export type RoutedScheduler = Pick<
  CampaignScheduler,
  | 'recover'
  | 'why'
  | 'overview'
  | 'occurrences'
  | 'previewSchedule'
  | 'alerts'
  | 'serviceHealth'
  | 'health'
  | 'versions'
  | 'workers'
  | 'breakers'
> & { readonly campaigns: RoutedCampaigns };

/** Most entries of each list in the answer of a recovery. */
const MAX_LISTED = 1_000;

/**
 * Routes, with the action that `authorize` is asked for:
 *
 * | route | action | answers |
 * |---|---|---|
 * | `GET /campaigns?status=&name=&limit=&after=` | read | `{ campaigns, next? }`: give `next` as `after` for the page after it. `limit` 1 to 1000, default 100 |
 * | `GET /campaigns/:id` | read | `{ campaign }` with `reason`, `progress`, `rate`, `estimatedEnd` |
 * | `GET /campaigns/:id/why` | read | `{ why }` |
 * | `GET /campaigns/:id/occurrences?limit=` | read | `{ past, next }`, `limit` of each, 1 to 100, default 20 |
 * | `POST /campaigns/:id/pause`, `resume`, `cancel`, `run-now` | its name | `{ campaign }`; the body may be `{ reason }` |
 * | `POST /campaigns/recover` | recover | runs one pass of recovery, or waits for the one that is running: `{ recovered, skipped, details }` |
 * | `POST /schedules/preview` | preview | body `{ recurrence, count?, from? }`: `{ description, occurrences }` |
 * | `GET /alerts?state=&level=&campaignId=&limit=&after=` | read-alerts | `{ alerts, next? }`, the latest raised first |
 * | `POST /alerts/:key/acknowledge` | acknowledge-alert | `{ alert }` |
 * | `GET /health` | health | `{ status, timestamp, services }`; 503 where the database or the queue of this process is sick |
 * | `GET /version` | health | `{ name, version, node, agenda, mongodb }` |
 * | `GET /campaigns/:id/failures?occurrence=&limit=&samples=` | failures | `{ failed, unknown, groups, others }`: reasons of failed and unknown ones, grouped |
 * | `GET /campaigns/:id/health` | read | `{ health }`: one word, why, heartbeat, checkpoint, crash, alerts; with the current recipient where `failures` is allowed as well |
 * | `GET /campaigns-health?limit=&after=` | read | `{ campaigns, next? }`: the same of all that are not final |
 * | `GET /workers?limit=` | read | `{ workers }`, the last heard of first |
 * | `GET /queue-management/status` | read | `{ data: { <messenger>: { circuit_state, pause_info, failures, opened_at, next_probe_at, campaigns_paused } } }` |
 * | `POST /queue-management/:messenger/open`, `close`, `reset` | open-breaker, … | `{ data }` of this messenger; the body may be `{ reason }` |
 *
 * Every answer but that of `/health` has `success`; a refusal is `{ success: false, error: { code, message, problems? } }` with 400 (`problems`
 * names each wrong field), 403, 404, 409 (not possible in this status), 413, 415 or 503. Anything else falls through to
 * the host.
 *
 * @throws ValidationError `invalid_options` when `authorize` is missing: there is no door without a lock.
 */
export function createCampaignRouter(scheduler: RoutedScheduler, options: CampaignRouterOptions): Router {
  // Read with care: plain JavaScript may pass nothing at all.
  const { authorize, identify, logger = lineLogger() } = (options ?? {}) as Partial<CampaignRouterOptions>;
  if (typeof authorize !== 'function') {
    const message =
      'Expected `authorize` to be a function (request, action) that says whether the request may do this';
    throw new ValidationError('invalid_options', 'Invalid options of the router', [
      { path: 'authorize', message },
    ]);
  }
  const { json, Router } = loadExpress();
  const router = Router();
  const ordering = (action: RouterAction): RequestHandler[] => [
    refuseOtherSites,
    askFirst(authorize, action),
    refuseOtherBodies,
    // Any JSON is read, so that what is no object is refused in other words than what is no JSON.
    json({ limit: BODY_LIMIT, type: 'application/json', strict: false }),
    refuseNoObject,
  ];
  router.post('/campaigns/recover', ...ordering('recover'), async (_request, response) => {
    const report = await scheduler.recover();
    response.json({
      success: true,
      recovered: report.recoveredCount,
      skipped: report.skippedCount,
      details: {
        recovered: report.recovered
          .slice(0, MAX_LISTED)
          .map(({ id, name, status }) => ({ id, name, status })),
        skipped: report.skipped.slice(0, MAX_LISTED).map(({ id, name, reason }) => ({ id, name, reason })),
      },
    });
  });
  router.post('/schedules/preview', ...ordering('preview'), (request, response) => {
    const input = bodyOf(request, ['recurrence', 'count', 'from']) as unknown as SchedulePreviewInput;
    response.json({ success: true, ...scheduler.previewSchedule(input) });
  });
  const reading = (action: RouterAction): RequestHandler[] => [askFirst(authorize, action), keepNoCopy];
  const who = identify ?? (() => undefined);
  addCampaignRoutes(router, { scheduler, reading, ordering, identify: who });
  addBreakerRoutes(router, { scheduler, reading: reading('read'), ordering, identify: who });
  addAlertRoutes(router, { scheduler, reading, ordering, identify: who });
  const mayName = (request: Request) => isAllowed(authorize, request, 'failures');
  addHealthRoutes(router, { scheduler, reading, mayName });
  router.use(answerErrors(logger));
  return router;
}

/** Express is an optional peer: it is looked for when the first router is made, so that apps without HTTP need not have it. */
function loadExpress(): typeof import('express') {
  try {
    return createRequire(import.meta.url)('express') as typeof import('express');
  } catch (cause) {
    const message = 'The router needs the package `express` (5.3 or later): `npm install express`';
    throw new CampaignSchedulerError('invalid_options', message, { cause });
  }
}
