import { describe, expect, test } from 'vitest';
import { ValidationError } from '../../src/errors.ts';
import { dryRunMessenger } from '../../src/messengers/dry-run.ts';
import type { Message } from '../../src/messengers/messenger.ts';
import { context, failureOf, mail } from './mail.ts';

describe('dryRunMessenger', () => {
  test('says sent and tells who would have got it', async () => {
    const seen: Message[] = [];
    const dry = dryRunMessenger({ onMessage: (message) => seen.push(message) });
    const message = mail();
    await expect(dry.send(message, context)).resolves.toEqual({ status: 'sent' });
    expect(seen).toEqual([message]);
    expect(dry.idempotent).toBe(true);
  });

  test('takes its time, and ends at the signal', async () => {
    const started = performance.now();
    await dryRunMessenger({ latencyMs: 30 }).send(mail(), context);
    expect(performance.now() - started).toBeGreaterThanOrEqual(29);
    const sending = dryRunMessenger({ latencyMs: 600_000 }).send(mail(), { signal: AbortSignal.timeout(10) });
    expect(await failureOf(sending)).toMatchObject({ kind: 'transient', code: 'EABORT' });
  });

  test('refuses a latency that is none', () => {
    expect(() => dryRunMessenger({ latencyMs: -1 })).toThrow(ValidationError);
  });
});
