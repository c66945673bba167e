/**
 * Where alerts are told outside the scheduler: a sink is a function that gets each alert when it is raised and when it is
 * cleared (`alert.state` says which). Invariant: no error of a sink made here shows an address or a header.
 */
import { createHash } from 'node:crypto';
import { isPlainObject } from '../core/plain-data.ts';
import type { Problem } from '../errors.ts';
import { expectation, refuseProblems } from '../input-checks.ts';
import type { Message, Messenger } from '../messengers/messenger.ts';
import type { Alert } from '../store/alerts.ts';

export interface AlertSinkContext {
  /** Fires when the sink has taken too long (10 s), or the scheduler stops. */
  readonly signal: AbortSignal;
  /** Those of the scheduler, by name. */
  readonly messengers: Readonly<Record<string, Messenger>>;
}

/** Told once a resolved promise comes back; a throw is tried again twice. */
export type AlertSink = ((alert: Alert, context: AlertSinkContext) => unknown) & {
  /** The messenger that it sends with, which the scheduler must have. */
  readonly messenger?: string;
};

export interface WebhookSinkOptions {
  /** `http://` or `https://`. */
  readonly url: string;
  /** For example `authorization`. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/**
 * Posts `{ alert }` as JSON; any answer but 2xx is a failure. A redirect is one as well: following it would lose the body,
 * and hand the headers to another host.
 *
 * @throws ValidationError `invalid_options`.
 */
export function webhookSink(options: WebhookSinkOptions): AlertSink {
  const { url, headers = {} } = (options ?? {}) as WebhookSinkOptions;
  const problems: Problem[] = [];
  if (!isHttp(url))
    problems.push({ path: 'url', message: expectation('url', 'an http:// or https:// URL', url) });
  if (!isPlainObject(headers) || !Object.values(headers).every((value) => typeof value === 'string')) {
    problems.push({ path: 'headers', message: 'Expected `headers` to be an object of names and texts' });
  }
  refuseProblems('Invalid options of webhookSink', problems);
  return async (alert, { signal }) => {
    const response = await fetch(url, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: JSON.stringify({ alert }),
      redirect: 'manual',
      signal,
    }).catch((error: unknown) => {
      // The driver's own words may name the address, which is often the secret itself.
      const code = (error as { cause?: { code?: unknown } }).cause?.code;
      throw new Error(`the webhook could not be reached${typeof code === 'string' ? `: ${code}` : ''}`);
    });
    await response.body?.cancel();
    if (!response.ok) throw new Error(`the webhook answered ${response.status}`);
  };
}

export interface MessengerSinkOptions {
  /** Name of one of the scheduler's messengers. */
  readonly messenger: string;
  /** An address as that messenger takes it, or several. */
  readonly to: string | readonly string[];
}

/**
 * Sends each alert with a messenger of the scheduler, directly: no campaign, no rate, nothing in the ledger. The content is
 * `{ subject, text }`, as the SMTP messenger takes it; the alert is in `recipient.vars.alert`. Where it reaches some of the
 * addresses only, the others are tried again.
 *
 * @throws ValidationError `invalid_options`.
 */
export function messengerSink(options: MessengerSinkOptions): AlertSink {
  const { messenger, to } = (options ?? {}) as MessengerSinkOptions;
  const addresses = typeof to === 'string' ? [to] : Array.isArray(to) ? [...(to as string[])] : [];
  const problems: Problem[] = [];
  const isText = (value: unknown): boolean => typeof value === 'string' && value !== '';
  if (!isText(messenger)) {
    problems.push({
      path: 'messenger',
      message: expectation('messenger', 'the name of a messenger', messenger),
    });
  }
  if (addresses.length === 0 || !addresses.every(isText)) {
    problems.push({ path: 'to', message: expectation('to', 'an address or a list of addresses', to) });
  }
  refuseProblems('Invalid options of messengerSink', problems);
  /** The addresses that have it; an alert that is told again is the same object. */
  const reached = new WeakMap<Alert, Set<string>>();
  const tell = async (alert: Alert, { signal, messengers }: AlertSinkContext): Promise<void> => {
    const have = reached.get(alert) ?? new Set();
    reached.set(alert, have);
    const sends = addresses
      .filter((address) => !have.has(address))
      .map(async (address) => {
        const result = await messengers[messenger]?.send(messageTo(address, alert), { signal });
        if (result?.status !== 'sent') {
          throw new Error(result === undefined ? 'there is no such messenger' : result.reason);
        }
        have.add(address);
      });
    const failure = (await Promise.allSettled(sends)).find(({ status }) => status === 'rejected');
    if (failure?.status === 'rejected') throw failure.reason;
  };
  return Object.assign(tell, { messenger });
}

/** One object, so that a messenger compiles it once. What an alert says is a value, never a template. */
const CONTENT = Object.freeze({ subject: '{{ subject }}', text: '{{ text }}' });

function messageTo(to: string, alert: Alert): Message {
  const lines = [
    alert.message,
    '',
    `${alert.state === 'raised' ? 'Since' : 'Over since'} ${(alert.clearedAt ?? alert.raisedAt).toISOString()}`,
    `Key: ${alert.key}`,
    ...(alert.campaignId === undefined ? [] : [`Campaign: ${alert.campaignId}`]),
    ...(alert.detail === undefined ? [] : [`Detail: ${JSON.stringify(alert.detail)}`]),
  ];
  const word = alert.state === 'raised' ? alert.level : 'cleared';
  const subject = `[${word}] ${alert.message}`.replace(/\s+/g, ' ').slice(0, 200);
  const id = `alert:${alert.key}`;
  const of = [to, alert.key, String(alert.count), alert.level, alert.state].join('\n');
  return {
    campaign: { id, name: 'Alerts' },
    run: { id, occurrence: alert.raisedAt.toISOString() },
    recipient: { id: to, to, vars: { subject, text: lines.join('\n'), alert: { ...alert } } },
    content: CONTENT,
    idempotencyKey: createHash('sha256').update(of).digest('base64url').slice(0, 32),
    attempt: 1,
  };
}

function isHttp(url: unknown): url is string {
  return typeof url === 'string' && /^https?:\/\//i.test(url) && URL.canParse(url);
}
