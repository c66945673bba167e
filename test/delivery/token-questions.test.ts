/** Which questions are asked together, and what becomes of them when an answer fails, is missing or never comes. */
import { describe, expect, test } from 'vitest';
import { TokenQuestions } from '../../src/delivery/token-questions.ts';
import type { TakenBlock, TokenQuestion } from '../../src/store/rates.ts';
import { VirtualClock } from './virtual-clock.ts';

const block = (granted: number): TakenBlock => ({
  granted,
  firstInMs: 0,
  waitMs: 0,
  blockedForMs: 0,
  takenAt: new Date(0),
});
const question = (key: string): TokenQuestion => ({ key, rate: { perSecond: 1 }, wanted: 1 });
const KEYS = Array.from({ length: 20 }, (_, index) => `k${index}`);

function setUp(
  answer: { one?: () => Promise<TakenBlock>; many?: () => Promise<Map<string, TakenBlock>> } = {},
) {
  const clock = new VirtualClock();
  const asked: string[][] = [];
  const questions = new TokenQuestions({
    clock,
    askOne: async ({ key }) => {
      asked.push([key]);
      return answer.one?.() ?? block(1);
    },
    askMany: async (all) => {
      asked.push(all.map(({ key }) => key));
      return answer.many?.() ?? new Map(all.map(({ key }) => [key, block(2)]));
    },
  });
  return { clock, asked, questions, ask: (key: string) => questions.ask(question(key)) };
}

describe('questions for tokens', () => {
  test('one alone is asked at once, by itself', async () => {
    const { clock, asked, ask } = setUp();
    const taken = ask('a');
    await clock.advance(1);
    expect(await taken).toEqual(block(1));
    expect(asked).toEqual([['a']]);
  });

  test('those that come together are asked together', async () => {
    const { clock, asked, ask } = setUp();
    const taken = Promise.all(KEYS.map(ask));
    await clock.advance(1);
    expect(await taken).toEqual(KEYS.map(() => block(2)));
    expect(asked).toEqual([KEYS]);
  });

  test('while one is under way others gather, but for a moment only: one without an answer holds nobody up', async () => {
    const { clock, asked, ask } = setUp({ one: () => new Promise(() => undefined) });
    void ask('stuck');
    await clock.advance(1);
    const taken = Promise.all(KEYS.map(ask));
    await clock.advance(20);
    expect(asked).toEqual([['stuck']]);
    await clock.advance(5);
    expect(await taken).toEqual(KEYS.map(() => block(2)));
    expect(asked).toEqual([['stuck'], KEYS]);
  });

  test('a bucket that had no answer is asked alone', async () => {
    const { clock, asked, ask } = setUp({
      many: async () => new Map(KEYS.slice(1).map((key) => [key, block(2)])),
    });
    const taken = Promise.all(KEYS.map(ask));
    await clock.advance(1);
    expect((await taken)[0]).toEqual(block(1));
    expect(asked).toEqual([KEYS, ['k0']]);
  });

  test('one block never answers two questions about the same bucket', async () => {
    const { clock, asked, ask } = setUp();
    const taken = Promise.all([...KEYS, 'k0'].map(ask));
    await clock.advance(1);
    expect((await taken).at(-1)).toEqual(block(1));
    expect(asked).toEqual([['k0'], KEYS]);
  });

  test('a failure is everybody’s, and the next question is asked as ever', async () => {
    let away = true;
    const { clock, ask } = setUp({
      many: async () => {
        if (away) throw new Error('away');
        return new Map(KEYS.map((key) => [key, block(2)]));
      },
    });
    const failed = Promise.allSettled(KEYS.map(ask));
    await clock.advance(1);
    expect((await failed).map(({ status }) => status)).toEqual(KEYS.map(() => 'rejected'));
    away = false;
    const taken = Promise.all(KEYS.map(ask));
    await clock.advance(1);
    expect(await taken).toEqual(KEYS.map(() => block(2)));
  });
});
