/** What a request says: its path, its query and its body, checked before anything is done. Every problem names its field. */
import type { Request, RequestHandler } from 'express';
import { checkBy } from '../campaign-changes.ts';
import { isPlainObject } from '../core/plain-data.ts';
import { ValidationError } from '../errors.ts';
import { expectation, refuseProblems, unknownKeyProblems } from '../input-checks.ts';

/** The campaign of the path. */
export function campaignIdOf(request: Request): string {
  const { id } = request.params;
  if (typeof id === 'string' && /^[0-9a-f]{24}$/i.test(id)) return id.toLowerCase();
  const message = expectation('id', 'the id of a campaign, 24 hexadecimal digits', id);
  throw new ValidationError('invalid_options', 'The campaign cannot be found', [{ path: 'id', message }]);
}

/** The query, which has no other keys than these: a filter with a typing error in it must not show everything. */
export function queryOf(request: Request, known: readonly string[]): Request['query'] {
  refuseProblems('The query is wrong', unknownKeyProblems(request.query, known));
  return request.query;
}

/** A number of the query. A wrong one comes out as it was given, so that whoever uses it says what is wrong with it. */
export function numberOf(request: Request, name: string): number | undefined {
  const value: unknown = request.query[name];
  if (value === undefined) return undefined;
  return typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : (value as number);
}

/** A body that is no object says nothing, also where nothing is read of it. */
export const refuseNoObject: RequestHandler = (request, _response, next) => {
  objectOf(request);
  next();
};

/** The body as an object; no body is an empty one. */
export function bodyOf(request: Request, known: readonly string[]): Readonly<Record<string, unknown>> {
  const body = objectOf(request);
  refuseProblems('The body is wrong', unknownKeyProblems(body, known));
  return body;
}

function objectOf(request: Request): Readonly<Record<string, unknown>> {
  const body: unknown = request.body === undefined ? {} : request.body;
  if (isPlainObject(body)) return body;
  const message = expectation('body', 'an object', body);
  throw new ValidationError('invalid_options', 'The body is wrong', [{ path: '(body)', message }]);
}

/** Why somebody gives an order, in his own words. */
export function reasonOf(request: Request): string | undefined {
  const given: unknown = bodyOf(request, ['reason']);
  checkBy(given);
  return given.reason;
}
