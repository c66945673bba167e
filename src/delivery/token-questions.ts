/**
 * The questions for tokens of all gates of this worker. A thousand campaigns at one a second ask a thousand times a second;
 * those that come close together are asked together. Invariants: every question has an answer or a failure of its own;
 * a question without an answer holds up no later one; who asks alone waits for nobody.
 */
import type { Clock } from '../clock.ts';
import type { TakenBlock, TokenQuestion } from '../store/rates.ts';

/** While a question is under way, others gather for so long. Little beside the time that is asked ahead. */
const GATHER_MS = 25;
/** So few are quicker one by one: asking together takes two round trips. */
const FEW = 2;
const MOST_TOGETHER = 500;

export interface TokenQuestionsOptions {
  readonly clock: Clock;
  readonly askOne: (question: TokenQuestion) => Promise<TakenBlock>;
  /** The answers by key; a key may be missing: it has to be asked alone. */
  readonly askMany: (questions: readonly TokenQuestion[]) => Promise<Map<string, TakenBlock>>;
}

interface Waiting extends TokenQuestion {
  readonly resolve: (taken: TakenBlock) => void;
  readonly reject: (error: unknown) => void;
}

export class TokenQuestions {
  readonly #options: TokenQuestionsOptions;
  #waiting: Waiting[] = [];
  #underWay = 0;
  #gathering = false;

  constructor(options: TokenQuestionsOptions) {
    this.#options = options;
  }

  ask(question: TokenQuestion): Promise<TakenBlock> {
    const answer = new Promise<TakenBlock>((resolve, reject) => {
      this.#waiting.push({ ...question, resolve, reject });
    });
    if (!this.#gathering) {
      this.#gathering = true;
      this.#options.clock.schedule(this.#underWay === 0 ? 0 : GATHER_MS, () => this.#askAll());
    }
    return answer;
  }

  #askAll(): void {
    this.#gathering = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    // One block answers one question: a gate that is closing and the one after it must not use the same tokens.
    const keys = new Set<string>();
    const doubled = waiting.filter(({ key }) => keys.has(key) || !keys.add(key));
    const together = waiting.filter((each) => !doubled.includes(each));
    const alone = together.length <= FEW ? waiting : doubled;
    for (const each of alone) void this.#askOne(each);
    if (alone === waiting) return;
    for (let first = 0; first < together.length; first += MOST_TOGETHER)
      void this.#askMany(together.slice(first, first + MOST_TOGETHER));
  }

  async #askOne({ key, rate, wanted, resolve, reject }: Waiting): Promise<void> {
    this.#underWay += 1;
    try {
      resolve(await this.#options.askOne({ key, rate, wanted }));
    } catch (error) {
      reject(error);
    } finally {
      this.#underWay -= 1;
    }
  }

  async #askMany(waiting: readonly Waiting[]): Promise<void> {
    this.#underWay += 1;
    try {
      const questions = waiting.map(({ key, rate, wanted }) => ({ key, rate, wanted }));
      const answers = await this.#options.askMany(questions);
      for (const each of waiting) {
        const taken = answers.get(each.key);
        if (taken === undefined) void this.#askOne(each);
        else each.resolve(taken);
      }
    } catch (error) {
      for (const { reject } of waiting) reject(error);
    } finally {
      this.#underWay -= 1;
    }
  }
}
