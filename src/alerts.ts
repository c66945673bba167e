/**
 * Looking at alerts and acknowledging them: `scheduler.alerts`. Invariant: every problem of an input is reported at once,
 * and nothing is read before.
 */
import { ALERT_LEVELS, type AlertLevel } from './core/alert-policy.ts';
import { CampaignSchedulerError, type Problem } from './errors.ts';
import { expectation, integerProblems, refuseProblems } from './input-checks.ts';
import {
  type Alert,
  type AlertPosition,
  acknowledgeAlert,
  alertOf,
  listAlerts,
  readAlert,
} from './store/alerts.ts';
import { parseId } from './store/campaigns.ts';
import type { Store } from './store/store.ts';

export interface ListAlertsOptions {
  /** Default: both. */
  readonly state?: 'raised' | 'cleared' | undefined;
  readonly level?: AlertLevel | undefined;
  readonly campaignId?: string | undefined;
  /** 1 to 1000. Default: 100. */
  readonly limit?: number | undefined;
  /** `next` of the answer before. */
  readonly after?: string | undefined;
}

export interface AlertList {
  /** The latest raised first. */
  readonly alerts: readonly Alert[];
  /** Give it to the next call as `after`; absent: that was all. */
  readonly next?: string;
}

export interface Alerts {
  /** Rejects with `invalid_options`, `stopped`. */
  list(options?: ListAlertsOptions): Promise<AlertList>;
  /**
   * Somebody takes care of a raised alert. The first one stays. Rejects with `invalid_options`, `not_found`, `refused`
   * (the alert is cleared), `stopped`.
   */
  acknowledge(key: string, options: { readonly by: string }): Promise<Alert>;
}

const STATES = ['raised', 'cleared'];
const MAX_LISTED = 1_000;
const MAX_BY = 200;

export function createAlerts(store: Store, assertRunning: () => void): Alerts {
  return {
    list: async (options = {}) => {
      assertRunning();
      return list(store, options);
    },
    acknowledge: async (key, options) => {
      assertRunning();
      return acknowledge(store, key, options);
    },
  };
}

async function list(store: Store, options: ListAlertsOptions): Promise<AlertList> {
  const { state, level, campaignId, limit = 100, after } = options;
  const position = after === undefined ? undefined : positionOf(after);
  const problems = integerProblems('limit', limit, 1, MAX_LISTED);
  const expect = (fits: boolean, path: string, what: string, value: unknown): void => {
    if (!fits) problems.push({ path, message: expectation(path, what, value) });
  };
  expect(state === undefined || STATES.includes(state), 'state', `one of ${STATES.join(', ')}`, state);
  expect(
    level === undefined || ALERT_LEVELS.includes(level),
    'level',
    `one of ${ALERT_LEVELS.join(', ')}`,
    level,
  );
  const id = campaignId === undefined ? undefined : parseId(String(campaignId))?.toHexString();
  expect(campaignId === undefined || id !== undefined, 'campaignId', 'the id of a campaign', campaignId);
  expect(after === undefined || position !== undefined, 'after', '`next` of the answer before', after);
  refuseProblems('Alerts cannot be listed', problems);
  const filter = {
    ...(state === undefined ? {} : { state }),
    ...(level === undefined ? {} : { level }),
    ...(id === undefined ? {} : { campaignId: id }),
  };
  const found = await listAlerts(store, filter, position, limit + 1);
  const alerts = found.slice(0, limit).map(alertOf);
  const last = alerts.at(-1);
  return {
    alerts,
    ...(last !== undefined && found.length > limit ? { next: `${last.raisedAt.getTime()}.${last.key}` } : {}),
  };
}

function positionOf(after: unknown): AlertPosition | undefined {
  const [, ms, key] = /^(\d{1,15})\.(.{1,300})$/s.exec(String(after)) ?? [];
  return ms === undefined || key === undefined ? undefined : { raisedAt: new Date(Number(ms)), key };
}

async function acknowledge(store: Store, key: string, options: { readonly by: string }): Promise<Alert> {
  const by: unknown = (options as { by?: unknown } | undefined)?.by;
  const problems: Problem[] = [];
  if (typeof by !== 'string' || by.trim() === '' || by.length > MAX_BY) {
    problems.push({ path: 'by', message: expectation('by', `a text of 1 to ${MAX_BY} characters`, by) });
  }
  if (typeof key !== 'string')
    problems.push({ path: 'key', message: expectation('key', 'the key of an alert', key) });
  refuseProblems('The alert cannot be acknowledged', problems);
  const changed = await acknowledgeAlert(store, key, by as string);
  const alert = changed ?? (await readAlert(store, key));
  const name = key.slice(0, 100);
  if (alert === null) throw new CampaignSchedulerError('not_found', `There is no alert \`${name}\`.`);
  if (alert.state !== 'raised')
    throw new CampaignSchedulerError('refused', `The alert \`${name}\` is cleared already.`);
  return alertOf(alert);
}
