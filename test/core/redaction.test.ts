/** What is told of errors and answers has no secrets in it. */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { crashText } from '../../src/core/crash.ts';
import { withoutSecrets } from '../../src/core/redaction.ts';
import { describeError } from '../../src/core/retry.ts';
import { Sends } from '../../src/delivery/sends.ts';
import { testClock } from '../engine/test-clock.ts';

describe('without secrets', () => {
  it.each([
    ['mongodb://ann:x@db/app', 'mongodb://***@db/app'],
    ['smtp://user:p@ss@mail:25/', 'smtp://***@mail:25/'],
    ['mongodb://ann:a/b?c@db/app is away', 'mongodb://***@db/app is away'],
    ['https://token@host/', 'https://***@host/'],
    ['"http://a:b@c" and "http://d:e@f"', '"http://***@c" and "http://***@f"'],
    ['https://host/send?api_key=abc&to=b', 'https://host/send?api_key=***&to=b'],
    ['{"password":"a b","user":"c"}', '{"password":***,"user":"c"}'],
    ['Authorization: Bearer abc.def', 'Authorization: ***'],
    ['no such user ann@example.org at https://host/x', 'no such user ann@example.org at https://host/x'],
  ])('%s', (text, told) => {
    expect(withoutSecrets(text)).toBe(told);
    expect(withoutSecrets(told)).toBe(told);
  });

  test('no password of a URL is told by an error or a crash, whatever is in it', () => {
    const word = fc.stringMatching(/^[!-~]{1,40}$/).map((tail) => `hunter2${tail}`);
    fc.assert(
      fc.property(word, (password) => {
        const error = new Error('refused', { cause: new Error(`at smtp://ann:${password}@mail:25/ now`) });
        expect(describeError(error).reason).not.toContain('hunter2');
        expect(JSON.stringify(crashText(error))).not.toContain('hunter2');
      }),
    );
  });
});

it.each<[string, unknown]>([
  ['failed', { status: 'failed', reason: 'cannot reach smtp://ann:hunter2@mail:25' }],
  ['skipped', { status: 'skipped', reason: 'token=hunter2 was not wanted' }],
  ['no result', { url: `https://${'a'.repeat(50)}:hunter2${'b'.repeat(50)}@host` }],
])('no secret is told of what a messenger answers: %s', async (_what, answer) => {
  const reason = await new Promise<string>((resolve) => {
    const sends = new Sends({
      messenger: { send: async () => answer as never },
      clock: testClock(),
      sendTimeoutMs: 1_000,
      onOutcome: (_index, outcome) => resolve('reason' in outcome ? outcome.reason : ''),
      onLateAnswer: () => undefined,
    });
    sends.start(0, { attempt: 1 } as never);
  });
  expect(reason).toContain('***');
  expect(reason).not.toContain('hunter2');
});
