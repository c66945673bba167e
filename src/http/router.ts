/**
 * The HTTP door to a scheduler, as an Express router the host mounts where it likes. Invariant: nothing is done for a
 * request that another site made a browser send, or that `authorize` has not answered with `true`; and every refusal is
 * JSON without a stack. The guards sit on the router's own routes only, so other paths of the host are untouched.
 */

import { createRequire } from 'node:module';
import type { ErrorRequestHandler, Request, RequestHandler, Router } from 'express';
import { CampaignSchedulerError, type ErrorCode, ValidationError } from '../errors.ts';
import { type Logger, lineLogger } from '../logger.ts';
import type { CampaignScheduler } from '../scheduler.ts';

/** What a request wants to do; handed to `authorize`. */
export type RouterAction = 'recover';

export interface CampaignRouterOptions {
  /**
   * Required. May this request do this? Only `true` lets it through: anything else is answered with 403, a throw with
   * 500. Called before the body is read.
   */
  readonly authorize: (request: Request, action: RouterAction) => boolean | Promise<boolean>;
  /** Hears of unexpected errors, which the answer does not show. Default: readable lines on standard error. */
  readonly logger?: Logger | undefined;
}

/** Most entries of each list in an answer. */
const MAX_LISTED = 1_000;
const BODY_LIMIT = '100kb';

const STATUS_OF: Partial<Record<ErrorCode, number>> = {
  invalid_options: 400,
  invalid_campaign: 400,
  invalid_content: 400,
  unknown_messenger: 400,
  not_found: 404,
  refused: 409,
  stopped: 503,
  mongo_unreachable: 503,
};

/**
 * Routes: `POST /campaigns/recover` runs one pass of recovery, or waits for the one that is running, and answers
 * `{ success, recovered, skipped, details }`. Anything else falls through to the host.
 *
 * @throws ValidationError `invalid_options` when `authorize` is missing: there is no door without a lock.
 */
export function createCampaignRouter(
  scheduler: Pick<CampaignScheduler, 'recover'>,
  options: CampaignRouterOptions,
): Router {
  // Read with care: plain JavaScript may pass nothing at all.
  const { authorize, logger = lineLogger() } = (options ?? {}) as Partial<CampaignRouterOptions>;
  if (typeof authorize !== 'function') {
    const message =
      'Expected `authorize` to be a function (request, action) that says whether the request may do this';
    throw new ValidationError('invalid_options', 'Invalid options of the router', [
      { path: 'authorize', message },
    ]);
  }
  const { json, Router } = loadExpress();
  const router = Router();
  const guarded = (action: RouterAction): RequestHandler[] => [
    refuseOtherSites,
    askFirst(authorize, action),
    refuseOtherBodies,
    json({ limit: BODY_LIMIT, type: 'application/json' }),
  ];
  router.post('/campaigns/recover', ...guarded('recover'), async (_request, response) => {
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

/** A refusal of the door itself. */
class Refusal extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * A page of another site can make a browser send a POST with the user's cookies. Browsers say where a request comes from:
 * by `Sec-Fetch-Site`, older ones by `Origin`. Programs send neither and pass.
 */
const refuseOtherSites: RequestHandler = (request, _response, next) => {
  if (request.method === 'GET' || request.method === 'HEAD') return next();
  const site = request.get('sec-fetch-site');
  const origin = request.get('origin');
  const own =
    site !== undefined
      ? site === 'same-origin' || site === 'none'
      : origin === undefined || isSameHost(origin, request.host);
  if (own) return next();
  throw new Refusal(403, 'cross_site', 'This request was sent by a page of another site');
};

/** `host` is the Host header, or the proxy's X-Forwarded-Host where the host trusts its proxy. */
function isSameHost(origin: string, host: string | undefined): boolean {
  try {
    const from = new URL(origin);
    return host !== undefined && from.host === new URL(`${from.protocol}//${host}`).host;
  } catch {
    return false; // `null`, the origin of sandboxed pages, among others
  }
}

function askFirst(authorize: CampaignRouterOptions['authorize'], action: RouterAction): RequestHandler {
  return async (request, _response, next) => {
    const allowed: unknown = await authorize(request, action);
    if (allowed !== true) throw new Refusal(403, 'forbidden', 'This request is not allowed to do this');
    next();
  };
}

/** Forms can be sent by any site without asking; JSON cannot. `is` answers null when there is no body. */
const refuseOtherBodies: RequestHandler = (request, _response, next) => {
  if (request.is('application/json') === false && request.get('content-length') !== '0') {
    throw new Refusal(415, 'unsupported_media_type', 'Expected the body to be application/json');
  }
  next();
};

function answerErrors(logger: Logger): ErrorRequestHandler {
  return (error: unknown, request, response, next) => {
    if (response.headersSent) return next(error);
    const { status, code, message } = describe(error);
    if (status === 500) logger.error({ path: request.path, error }, 'a request failed');
    response.status(status).json({ success: false, error: { code, message } });
  };
}

/** The database did not answer: the driver's own words stay in the log. */
function isAway(error: unknown): boolean {
  const name = String((error as { name?: unknown } | null)?.name);
  return /^(Mongo(ServerSelection|Network|NetworkTimeout|NotConnected|PoolCleared)|NoAnswer)/.test(name);
}

function describe(error: unknown): { status: number; code: string; message: string } {
  if (error instanceof Refusal) return error;
  if (error instanceof CampaignSchedulerError) {
    return { status: STATUS_OF[error.code] ?? 500, code: error.code, message: error.message };
  }
  if (isAway(error)) {
    return { status: 503, code: 'mongo_unreachable', message: 'MongoDB cannot be reached right now' };
  }
  // Errors of reading the body carry a status and a type such as `entity.too.large`.
  const { status, type } = Object(error) as { status?: unknown; type?: unknown };
  if (status === 413) {
    return { status, code: 'too_large', message: `Expected the body to be at most ${BODY_LIMIT}` };
  }
  if (type === 'entity.parse.failed') {
    return { status: 400, code: 'invalid_json', message: 'Expected the body to be valid JSON' };
  }
  if (typeof type === 'string' && typeof status === 'number' && status >= 400 && status < 500) {
    return { status, code: type.replaceAll('.', '_'), message: 'The body could not be read' };
  }
  return {
    status: 500,
    code: 'internal_error',
    message: 'Something went wrong; the log of the server says what',
  };
}
