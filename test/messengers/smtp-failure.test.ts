/** The judgement alone: whatever the error, a mail that was handed over is only settled by an answer to it. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { diedBeforeContent, judge, SmtpFailure, type SmtpPhase } from '../../src/messengers/smtp-failure.ts';

const thrown = fc.record(
  {
    code: fc.constantFrom(
      'ECONNECTION',
      'ESOCKET',
      'ETIMEDOUT',
      'EENVELOPE',
      'EMESSAGE',
      'EAUTH',
      'EPROTOCOL',
      'ESTREAM',
    ),
    originalCode: fc.constantFrom('ECONNRESET', 'EPIPE', 'ECONNREFUSED'),
    command: fc.constantFrom('CONN', 'API', 'MAIL FROM', 'RCPT TO', 'DATA', 'AUTH PLAIN'),
    responseCode: fc.oneof(fc.integer({ min: 0, max: 999 }), fc.constant(421), fc.constant('550')),
    message: fc.string(),
  },
  { requiredKeys: [] },
);
const error = fc.oneof(thrown, fc.anything());

describe('judge', () => {
  test('after hand-over only a reply to the message settles it', () => {
    fc.assert(
      fc.property(error, (value) => {
        const failure = new SmtpFailure('content', value);
        const answered =
          failure.code === 'EMESSAGE' && failure.command === 'DATA' && failure.replyCode !== undefined;
        expect(judge(failure).kind === 'unknown').toBe(!answered);
      }),
    );
  });

  test('before hand-over nothing is unknown, and before the envelope everything is the provider', () => {
    fc.assert(
      fc.property(error, (value) => {
        expect(judge(new SmtpFailure('envelope', value)).kind).not.toBe('unknown');
        expect(judge(new SmtpFailure('connecting', value)).kind).toBe('provider');
      }),
    );
  });

  test('permanent is never said without a refusal', () => {
    fc.assert(
      fc.property(error, fc.constantFrom<SmtpPhase>('connecting', 'envelope', 'content'), (value, phase) => {
        const failure = new SmtpFailure(phase, value);
        if (judge(failure).kind !== 'permanent') return;
        const refused = failure.replyCode !== undefined && failure.replyCode >= 500;
        expect(refused || failure.code === 'EMESSAGE' || failure.command === 'API').toBe(true);
      }),
    );
  });

  test('only a connection that died before the message is replaced', () => {
    fc.assert(
      fc.property(error, (value) => {
        expect(diedBeforeContent(new SmtpFailure('content', value))).toBe(false);
        expect(diedBeforeContent(new SmtpFailure('connecting', value))).toBe(false);
      }),
    );
    const envelope = (value: object) => diedBeforeContent(new SmtpFailure('envelope', value));
    expect(envelope({ code: 'ECONNECTION', command: 'CONN' })).toBe(true);
    expect(envelope({ code: 'ESOCKET', originalCode: 'ECONNRESET' })).toBe(true);
    expect(envelope({ code: 'EENVELOPE', responseCode: 421 })).toBe(true);
    expect(envelope({ code: 'EENVELOPE', responseCode: 451 })).toBe(false);
    expect(envelope({ code: 'ETIMEDOUT' })).toBe(false);
    expect(envelope({ code: 'EABORT' })).toBe(false);
  });
});
