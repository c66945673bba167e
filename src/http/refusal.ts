/** How a request is refused: every refusal and every error is JSON, and none shows a stack or the driver's own words. */
import type { ErrorRequestHandler } from 'express';
import { CampaignSchedulerError, type ErrorCode, type Problem, ValidationError } from '../errors.ts';
import type { Logger } from '../logger.ts';

/** Largest body that is read. */
export const BODY_LIMIT = '100kb';

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

/** A refusal of the door itself. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

interface Answer {
  readonly status: number;
  readonly code: string;
  readonly message: string;
  /** Of a refused input: each wrong field. */
  readonly problems?: readonly Problem[];
}

/** Answers `{ success: false, error: { code, message, problems? } }`; what is nobody's fault is told to the log only. */
export function answerErrors(logger: Logger): ErrorRequestHandler {
  return (error: unknown, request, response, next) => {
    if (response.headersSent) return next(error);
    const { status, code, message, problems } = describe(error);
    if (status === 500) logger.error({ path: request.path, error }, 'a request failed');
    const told = problems === undefined ? {} : { problems };
    response.status(status).json({ success: false, error: { code, message, ...told } });
  };
}

/** The database did not answer: the driver's own words stay in the log. */
function isAway(error: unknown): boolean {
  const name = String((error as { name?: unknown } | null)?.name);
  return /^(Mongo(ServerSelection|Network|NetworkTimeout|NotConnected|PoolCleared)|NoAnswer)/.test(name);
}

function describe(error: unknown): Answer {
  if (error instanceof Refusal) return error;
  if (error instanceof CampaignSchedulerError) {
    const { code, message } = error;
    const problems = error instanceof ValidationError ? { problems: error.problems } : {};
    return { status: STATUS_OF[code] ?? 500, code, message, ...problems };
  }
  if (isAway(error)) {
    return { status: 503, code: 'mongo_unreachable', message: 'MongoDB cannot be reached right now' };
  }
  // The path itself cannot be read, as `/campaigns/%E0%A4%A`: nobody was asked yet.
  if (error instanceof URIError) {
    return { status: 400, code: 'invalid_path', message: 'Expected the path to be encoded as UTF-8' };
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
