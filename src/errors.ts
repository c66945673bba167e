/**
 * Every error this package throws on purpose. `code` is stable and meant for programs; `message` is meant for people
 * and never contains credentials.
 */
import type { Problem } from './core/expectation.ts';

export type { Problem };

export type ErrorCode =
  | 'invalid_options'
  | 'invalid_campaign'
  | 'mongo_unreachable'
  | 'mongo_auth'
  | 'index_conflict'
  | 'unknown_messenger'
  | 'invalid_content'
  | 'audience_failed'
  | 'not_found'
  | 'refused'
  | 'stopped'
  | 'lock_lost'
  | 'mongod_unavailable';

/** Base class: `instanceof CampaignSchedulerError` and `error.code` are all a caller needs. */
export class CampaignSchedulerError extends Error {
  override readonly name: string = 'CampaignSchedulerError';
  readonly code: ErrorCode;
  /** More facts for programs, for example the list of `problems` of a refused input. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; details?: Record<string, unknown> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = Object.freeze({ ...options.details });
  }
}

/** A refused input: lists every problem at once, never only the first. */
export class ValidationError extends CampaignSchedulerError {
  override readonly name = 'ValidationError';
  readonly problems: readonly Problem[];

  constructor(code: 'invalid_options' | 'invalid_campaign', what: string, problems: readonly Problem[]) {
    const lines = problems.map((problem) => `  - ${problem.message}`);
    super(code, `${what}:\n${lines.join('\n')}`, { details: { problems } });
    this.problems = problems;
  }
}
