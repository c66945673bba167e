/**
 * The gates of this worker, one per campaign and per messenger, made when they are first needed. Invariant: all pages of
 * a campaign, and all campaigns of a messenger, share one gate, so that what one does not use serves the others.
 */
import type { Clock } from '../clock.ts';
import type { Rate } from '../core/rate.ts';
import {
  campaignRateKey,
  messengerRateKey,
  restingKeys,
  returnTokens,
  slowDown,
  takeTokens,
  takeTokensOfMany,
} from '../store/rates.ts';
import type { Store } from '../store/store.ts';
import { RateGate } from './rate-gate.ts';
import { TokenQuestions } from './token-questions.ts';

export class RateGates {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #questions: TokenQuestions;
  readonly #gates = new Map<string, RateGate>();

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    this.#questions = new TokenQuestions({
      clock,
      askOne: ({ key, rate, wanted }) => takeTokens(store, key, rate, wanted),
      askMany: (questions) => takeTokensOfMany(store, questions),
    });
  }

  /** The campaign's gate; undefined for a campaign without a rate. A changed rate counts at once. */
  ofCampaign(campaignId: string, rate: Rate | undefined): RateGate | undefined {
    const key = campaignRateKey(campaignId);
    return rate === undefined && !this.#gates.has(key) ? undefined : this.#gate(key, rate);
  }

  /** The messenger's gate, which rests when its provider asks for it, even without a rate. */
  ofMessenger(name: string, rate: Rate | undefined): RateGate {
    return this.#gate(messengerRateKey(name), rate);
  }

  /** One look at the rests that other servers have heard of. Rated messengers hear of them with the next block as well. */
  async lookForRests(messengers: readonly string[]): Promise<void> {
    const resting = await restingKeys(this.#store, messengers.map(messengerRateKey));
    for (const [key, forMs] of resting) this.#gates.get(key)?.block(forMs);
  }

  /** A campaign's last page here is gone: its tokens go back, its gate is forgotten. */
  async dropCampaign(campaignId: string): Promise<void> {
    const key = campaignRateKey(campaignId);
    const gate = this.#gates.get(key);
    this.#gates.delete(key);
    await gate?.close();
  }

  /** Gives every token back and asks for no more. Resolves when MongoDB has answered. */
  async close(): Promise<void> {
    await Promise.all([...this.#gates.values()].map((gate) => gate.close()));
  }

  #gate(key: string, rate: Rate | undefined): RateGate {
    const known = this.#gates.get(key);
    known?.setRate(rate);
    if (known !== undefined) return known;
    const store = this.#store;
    const gate = new RateGate({
      clock: this.#clock,
      rate,
      take: (present, wanted) => this.#questions.ask({ key, rate: present, wanted }),
      giveBack: ({ rate: then, count, takenAt }) => returnTokens(store, key, then, count, takenAt),
      slowDown: (forMs) => slowDown(store, key, forMs),
    });
    this.#gates.set(key, gate);
    return gate;
  }
}
