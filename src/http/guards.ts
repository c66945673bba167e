/**
 * What stands before every route. Invariant: an order that another site made a browser send is refused before anybody is
 * asked; `authorize` is asked before the body is read; a body is JSON or is refused. A page of another site can make a
 * browser ask for what is only read as well, but browsers do not let it see the answer.
 */
import type { Request, RequestHandler } from 'express';
import { Refusal } from './refusal.ts';

/** What a request wants to do; handed to `authorize`. */
export type RouterAction =
  | 'recover'
  | 'read'
  | 'pause'
  | 'resume'
  | 'cancel'
  | 'run-now'
  | 'preview'
  | 'read-alerts'
  | 'acknowledge-alert'
  | 'health'
  | 'failures'
  | 'open-breaker'
  | 'close-breaker'
  | 'reset-breaker';

export type Authorize = (request: Request, action: RouterAction) => boolean | Promise<boolean>;

/**
 * A page of another site can make a browser send a POST with the user's cookies. Browsers say where a request comes from:
 * by `Sec-Fetch-Site`, older ones by `Origin`. Programs send neither and pass.
 */
export const refuseOtherSites: RequestHandler = (request, _response, next) => {
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

/** Only `true` allows. */
export async function isAllowed(authorize: Authorize, request: Request, action: RouterAction) {
  const allowed: unknown = await authorize(request, action);
  return allowed === true;
}

export function askFirst(authorize: Authorize, action: RouterAction): RequestHandler {
  return async (request, _response, next) => {
    if (!(await isAllowed(authorize, request, action)))
      throw new Refusal(403, 'forbidden', 'This request is not allowed to do this');
    next();
  };
}

/** Forms can be sent by any site without asking; JSON cannot. `is` answers null when there is no body. */
export const refuseOtherBodies: RequestHandler = (request, _response, next) => {
  if (request.is('application/json') === false && request.get('content-length') !== '0') {
    throw new Refusal(415, 'unsupported_media_type', 'Expected the body to be application/json');
  }
  next();
};

/** What is true of a campaign now must not come out of a cache. */
export const keepNoCopy: RequestHandler = (_request, response, next) => {
  response.set('Cache-Control', 'no-store');
  next();
};
