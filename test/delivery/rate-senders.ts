/** Senders that keep to rates as a page does: room, intents, a flush, sends. And what came out of it. */
import type { Clock } from '../../src/clock.ts';
import { type Bucket, putBack, type Rate, takeBlock } from '../../src/core/rate.ts';
import { RateGate } from '../../src/delivery/rate-gate.ts';
import { RateShare } from '../../src/delivery/rate-share.ts';
import type { TakenBlock } from '../../src/store/rates.ts';

/** The buckets of a database that is reached by a virtual clock, with a way there and back. */
export class PlayedBuckets {
  readonly clock: Clock;
  latencyMs = 2;
  away = false;
  questions = 0;
  returns = 0;
  #buckets = new Map<string, Bucket>();

  constructor(clock: Clock) {
    this.clock = clock;
  }

  gate(key: string, rate: Rate | undefined): RateGate {
    return new RateGate({
      clock: this.clock,
      rate,
      take: async (present, wanted): Promise<TakenBlock> => {
        this.questions += 1;
        await this.#onTheWay();
        const { bucket, grant } = takeBlock(this.#buckets.get(key), present, this.#serverNow(), wanted);
        this.#buckets.set(key, bucket);
        const takenAt = new Date(this.#serverNow());
        await this.#onTheWay();
        return { ...grant, takenAt };
      },
      giveBack: async ({ rate: then, count, takenAt }) => {
        this.returns += 1;
        await this.#onTheWay();
        const bucket = this.#buckets.get(key);
        if (bucket === undefined || this.#serverNow() >= takenAt.getTime() + 1_000) return;
        this.#buckets.set(key, putBack(bucket, then, this.#serverNow(), count));
      },
      slowDown: async (forMs) => {
        await this.#onTheWay();
        const bucket = this.#buckets.get(key) ?? { tokens: 0, at: this.#serverNow(), blockedUntil: 0 };
        this.#buckets.set(key, { ...bucket, blockedUntil: this.#serverNow() + forMs });
      },
    });
  }

  level(key: string): number | undefined {
    return this.#buckets.get(key)?.tokens;
  }

  #serverNow(): number {
    return this.clock.now().getTime();
  }
  async #onTheWay(): Promise<void> {
    await new Promise<void>((resolve) => this.clock.schedule(this.latencyMs, resolve));
    if (this.away) throw new Error('no server');
  }
}

export interface SenderOptions {
  readonly clock: Clock;
  /** Recipients with an open fate at once. */
  readonly window?: number;
  /** How long a flush takes, and a send. */
  readonly flushMs?: number;
  readonly sendMs?: number;
  /** Recipients in all. */
  readonly total?: number;
  readonly onSend?: () => void;
}

/** Sends until it has no recipients or is stopped. */
export class Sender {
  readonly sends: number[] = [];
  readonly share: RateShare;
  readonly #options: Required<SenderOptions>;
  #left: number;
  #open = 0;
  #ready = 0;
  #flushing = false;
  #stopped = false;
  #kicked = false;

  constructor(gates: readonly RateGate[], options: SenderOptions) {
    this.#options = {
      window: 20,
      flushMs: 2,
      sendMs: 2,
      total: Number.POSITIVE_INFINITY,
      onSend: () => undefined,
      ...options,
    };
    this.#left = this.#options.total;
    this.share = new RateShare(gates, () => this.kick());
    this.kick();
  }

  kick(): void {
    if (this.#kicked) return;
    this.#kicked = true;
    setImmediate(() => {
      this.#kicked = false;
      this.#step();
    });
  }

  /** A pause: intents that have not begun are withdrawn. */
  stop(): void {
    this.#stopped = true;
    this.#open -= this.share.reserved;
    this.#left += this.share.reserved;
    this.#ready = 0;
    this.share.giveUp();
  }

  #step(): void {
    if (this.#stopped) return;
    const { clock, window, flushMs, sendMs, onSend } = this.#options;
    const wanted = Math.min(this.#left, window - this.#open);
    const room = this.#flushing || wanted === 0 ? 0 : this.share.askForRoom(wanted);
    if (room > 0) {
      this.share.reserve(room);
      this.#open += room;
      this.#left -= room;
      this.#flushing = true;
      clock.schedule(flushMs, () => {
        this.#flushing = false;
        if (!this.#stopped) this.#ready += room;
        this.kick();
      });
    }
    while (this.#ready > 0 && this.share.tryStart()) {
      this.#ready -= 1;
      this.sends.push(clock.monotonic());
      onSend();
      clock.schedule(sendMs, () => {
        this.#open -= 1;
        this.kick();
      });
    }
  }
}

/** Most sends in any window of this length. */
export function fullest(sends: readonly number[], windowMs: number): number {
  const sorted = [...sends].sort((a, b) => a - b);
  let most = 0;
  for (let from = 0, to = 0; to < sorted.length; to += 1) {
    while ((sorted[to] ?? 0) - (sorted[from] ?? 0) >= windowMs) from += 1;
    most = Math.max(most, to - from + 1);
  }
  return most;
}
