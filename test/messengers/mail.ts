/** Makes messages, and a messenger that is closed after the test, for the tests of the SMTP messenger. */

import { afterAll, beforeEach, expect, onTestFinished } from 'vitest';
import { DeliveryError, type Message, type Messenger } from '../../src/messengers/messenger.ts';
import { smtpMessenger } from '../../src/messengers/smtp.ts';
import type { SmtpMessengerOptions } from '../../src/messengers/smtp-options.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import { readMail } from './read-mail.ts';

export const CONTENT = { subject: 'Hello {{ first_name }}', text: 'Dear {{ first_name }}' };

export function mail(changes: { to?: string; key?: string; vars?: object; content?: object } = {}): Message {
  return {
    campaign: { id: 'c1', name: 'Spring' },
    run: { id: 'r1', occurrence: 'once' },
    recipient: { id: '7', to: changes.to ?? 'ann@example.org', vars: { first_name: 'Ann', ...changes.vars } },
    content: (changes.content ?? CONTENT) as Message['content'],
    idempotencyKey: (changes.key ?? 'k').padEnd(32, '0'),
    attempt: 1,
  };
}

export function messenger(options: Partial<SmtpMessengerOptions>): Messenger {
  const made = smtpMessenger({ from: 'News <news@example.com>', ...options });
  onTestFinished(async () => made.close?.());
  return made;
}

export const context = { signal: new AbortController().signal };

/** The `DeliveryError` that the send fails with. */
export async function failureOf(sending: Promise<unknown>): Promise<DeliveryError> {
  const error = await sending.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof DeliveryError) return error;
  throw new Error('expected a DeliveryError', { cause: error });
}

/** A sink for the tests of one file, empty before each; `arrived` sends one mail to it and reads what came. */
export async function mailSink() {
  const sink = await startSmtpSink();
  beforeEach(() => {
    sink.messages.length = 0;
  });
  afterAll(() => sink.close());
  const arrived = async (changes: Parameters<typeof mail>[0], options: object = {}) => {
    await messenger({ url: sink.url, ...options }).send(mail(changes), context);
    expect(sink.messages).toHaveLength(1);
    return readMail(sink.messages[0]?.raw ?? '');
  };
  return { sink, arrived };
}
