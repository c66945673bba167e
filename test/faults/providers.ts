/**
 * The messengers of the fault tests. Each writes its hand-over to the log at the instant the provider would have taken it,
 * somewhere within the time that `send` takes. What recipients' vars say holds until the provider has healed: `refused`
 * ones get a permanent verdict, `busy` ones are to be tried later, and `poison` kills the worker that hands it over.
 */
import { existsSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { DeliveryError, type Message, type Messenger, type SendResult } from '../../src/index.ts';
import { type Appender, readLog } from './send-log.ts';

export const MESSENGERS = ['instant', 'short', 'ambiguous', 'deduping', 'mailer', 'slow', 'gated'] as const;
export type MessengerName = (typeof MESSENGERS)[number];

export interface ProviderOptions {
  readonly logFile: string;
  readonly append: Appender;
  readonly random: () => number;
  /** Called after the line is in the log, before `send` goes on. */
  readonly onAccepted: () => void;
  readonly onAsked: (now: boolean) => void;
  /** Ends this process on the spot. */
  readonly die: (why: string) => void;
  /** What the `gated` messenger waits for, once per hand-over, after the provider took it. */
  readonly gate: () => Promise<void>;
}

/** From the moment this file exists, the provider refuses nobody of the campaign any more. */
export const healFile = (logFile: string, campaignId: string): string => `${logFile}.${campaignId}.healed`;

/** What processes that only give orders need to know of them. */
export function declaredProviders(): Record<MessengerName, Messenger> {
  const send = (): Promise<SendResult> => Promise.reject(new Error('this process only gives orders'));
  const reconcile = (): Promise<[]> => Promise.resolve([]);
  const plain: Messenger = { send };
  return {
    instant: plain,
    short: plain,
    ambiguous: plain,
    slow: plain,
    gated: plain,
    deduping: { send, reconcile, idempotent: true },
    mailer: { send, idempotent: true },
  };
}

export function providers(options: ProviderOptions): Record<MessengerName, Messenger> {
  const { logFile, append, random, onAccepted, onAsked, die, gate } = options;
  const between = (least: number, most: number): number => least + random() * (most - least);

  /** The provider's verdict. Undefined: it took the message. */
  function hand(message: Message): SendResult | undefined {
    const { vars, id: recipientId } = message.recipient;
    const entry = {
      campaignId: message.campaign.id,
      runId: message.run.id,
      recipientId,
      key: message.idempotencyKey,
      attempt: message.attempt,
    };
    const ill = vars !== undefined && !existsSync(healFile(logFile, entry.campaignId));
    if (ill && vars.busy === true) throw new DeliveryError('transient', 'mailbox busy');
    if (ill && vars.refused === true) {
      append({ kind: 'refuse', ...entry });
      return { status: 'failed', permanent: true, reason: 'no such address', code: '550' };
    }
    append({ kind: 'accept', ...entry });
    if (ill && vars.poison === true) die('poison');
    onAccepted();
    return undefined;
  }

  /** The message is taken somewhere between two waits. */
  function taking(before: () => number, after: () => number): Messenger['send'] {
    return async (message) => {
      await wait(before());
      const verdict = hand(message);
      await wait(after());
      return verdict ?? { status: 'sent', providerId: message.idempotencyKey };
    };
  }

  const short = taking(
    () => between(1, 3),
    () => between(1, 2),
  );
  return {
    instant: { send: async (message) => hand(message) ?? { status: 'sent' } },
    short: { send: short },
    // takes the message at once, and leaves the worker in the dark for long
    ambiguous: {
      send: taking(
        () => 0,
        () => between(20, 300),
      ),
    },
    slow: {
      send: taking(
        () => between(2, 10),
        () => between(3, 10),
      ),
    },
    gated: {
      send: async (message) => {
        const verdict = hand(message);
        await gate();
        return verdict ?? { status: 'sent' };
      },
    },
    mailer: { send: short, idempotent: true },
    deduping: {
      send: short,
      idempotent: true,
      reconcile: async (messages) => {
        onAsked(true);
        await wait(between(500, 800)); // longer than an outcome waits for company: a flush comes in between
        const taken = new Set(readLog(logFile).flatMap(({ kind, key }) => (kind === 'accept' ? [key] : [])));
        onAsked(false);
        return messages.map(({ idempotencyKey }) =>
          taken.has(idempotencyKey) ? { status: 'sent' } : { status: 'not-sent' },
        );
      },
    },
  };
}
