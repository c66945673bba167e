/**
 * The ledger of one page as a value: what became of each recipient, in columns. Owns the meaning of the stored columns
 * and every transition of a single delivery; knows nothing of claims, time sources or databases.
 * Invariant: `counts` always equals what a recount of `states` gives.
 *
 * Columns rather than one document per recipient: a flush writes four short values however many outcomes it carries,
 * and the state of a page can be read by eye (`states: 'ssssuss.....'`).
 */

/** What a delivery can be. `unsettled` recipients (see `LETTERS`) are shown as `sending`: their fate is being found out. */
export type DeliveryState = 'pending' | 'sending' | 'retrying' | 'sent' | 'failed' | 'skipped' | 'unknown';
export const DELIVERY_STATES = [
  'pending',
  'sending',
  'retrying',
  'sent',
  'failed',
  'skipped',
  'unknown',
] as const satisfies readonly DeliveryState[];

/** The letters in the `states` column. */
export type Letter =
  | 'pending'
  | 'sending'
  | 'unsettled'
  | 'retrying'
  | 'sent'
  | 'failed'
  | 'skipped'
  | 'unknown';
export const LETTERS: Readonly<Record<Letter, string>> = {
  pending: '.',
  sending: '>', // an intent is recorded under the present claim
  unsettled: '?', // an intent of an earlier holder; `onUnknown` decides once that holder's last send must have ended
  retrying: 'r',
  sent: 's',
  failed: 'f',
  skipped: 'k',
  unknown: 'u',
};

const CODE = Object.fromEntries(
  Object.entries(LETTERS).map(([name, letter]) => [name, letter.charCodeAt(0)]),
) as Record<Letter, number>;
const NAME = new Map<number, Letter>(Object.entries(CODE).map(([name, code]) => [code, name as Letter]));

export type Counts = Record<DeliveryState, number>;

/** What only some recipients have. Absent means: nothing to tell. */
export interface Detail {
  readonly providerId?: string;
  readonly code?: string;
  readonly reason?: string;
  /** Of a retrying recipient: not before this instant (ms since the epoch, server time). */
  readonly dueAt?: number;
  /** Of an unknown, given-up or unsettled recipient: the claim under which the hand-over had begun. */
  readonly token?: string;
  /** Of an unknown or given-up recipient: when that was recorded, later than its intent. Orders given before leave it alone. */
  readonly since?: number;
  /** Of an unsettled recipient: what is done once the earlier holder's last send must have ended. `retry`: a new round. */
  readonly settle?: 'resend' | 'reconcile' | 'retry';
  /** Failures of the messenger itself while others succeeded. */
  readonly providerFailures?: number;
  /** Holders in a row that died while it was in flight. Gone with its next outcome. */
  readonly deaths?: number;
}

export interface Columns {
  readonly states: string;
  /** Instant of the last change of each recipient, 6 bytes each, little endian, ms since the epoch (server time). */
  readonly at: Uint8Array;
  /** Hand-overs begun, one byte each. */
  readonly attempts: Uint8Array;
  /** Number of the retry order each recipient belongs to, two bytes each; absent while all are 0. */
  readonly generations?: Uint8Array;
}

const AT_BYTES = 6;

export function emptyCounts(): Counts {
  return { pending: 0, sending: 0, retrying: 0, sent: 0, failed: 0, skipped: 0, unknown: 0 };
}

export function addCounts(into: Counts, more: Partial<Counts> | undefined): Counts {
  for (const state of DELIVERY_STATES) into[state] += more?.[state] ?? 0;
  return into;
}

/** Nothing more will happen to these by themselves. */
export function settledCount(counts: Counts): number {
  return counts.sent + counts.failed + counts.skipped + counts.unknown;
}

function stateOf(letter: Letter): DeliveryState {
  return letter === 'unsettled' ? 'sending' : letter;
}

export class LedgerPage {
  readonly size: number;
  readonly counts: Counts;
  readonly #letters: Uint8Array;
  readonly #at: Buffer;
  readonly #attempts: Uint8Array;
  #generations: Uint16Array | undefined;
  readonly #details: Map<number, Detail>;
  /** Recipients whose detail changed since the last `takeChangedDetails()`. */
  #changed = new Set<number>();

  constructor(size: number, columns?: Partial<Columns>, details?: Readonly<Record<string, Detail>>) {
    this.size = size;
    const stored = columns?.states === undefined ? undefined : columns;
    this.#letters = Buffer.from(stored?.states ?? LETTERS.pending.repeat(size), 'latin1');
    if (this.#letters.length !== size)
      throw new RangeError(`a page of ${size} has ${this.#letters.length} states`);
    this.#at = Buffer.from(stored?.at ?? new Uint8Array(size * AT_BYTES));
    this.#attempts = Uint8Array.from(stored?.attempts ?? new Uint8Array(size));
    this.#generations = decodeGenerations(stored?.generations, size);
    this.#details = new Map(Object.entries(details ?? {}).map(([index, detail]) => [Number(index), detail]));
    this.counts = emptyCounts();
    for (let index = 0; index < size; index += 1) this.counts[stateOf(this.letter(index))] += 1;
  }

  letter(index: number): Letter {
    const name = NAME.get(this.#letters[index] ?? 0);
    if (name === undefined) throw new RangeError(`recipient ${index} has no known state`);
    return name;
  }
  state(index: number): DeliveryState {
    return stateOf(this.letter(index));
  }
  attempts(index: number): number {
    return this.#attempts[index] ?? 0;
  }
  generation(index: number): number {
    return this.#generations?.[index] ?? 0;
  }
  at(index: number): number {
    return this.#at.readUIntLE(index * AT_BYTES, AT_BYTES);
  }
  detail(index: number): Detail | undefined {
    return this.#details.get(index);
  }

  /** All recipients in one of these states, in order. */
  indices(...letters: Letter[]): number[] {
    const codes = new Set(letters.map((letter) => CODE[letter]));
    const found: number[] = [];
    for (let index = 0; index < this.size; index += 1)
      if (codes.has(this.#letters[index] ?? 0)) found.push(index);
    return found;
  }
  count(letter: Letter): number {
    const code = CODE[letter];
    let count = 0;
    for (let index = 0; index < this.size; index += 1) if (this.#letters[index] === code) count += 1;
    return count;
  }

  /** Moves one recipient. The detail is replaced: what is not given is gone. */
  set(index: number, letter: Letter, at: number, detail?: Detail): void {
    this.counts[this.state(index)] -= 1;
    this.#letters[index] = CODE[letter];
    this.counts[stateOf(letter)] += 1;
    this.#at.writeUIntLE(at, index * AT_BYTES, AT_BYTES);
    if (detail !== undefined) this.#details.set(index, detail);
    if (detail !== undefined || this.#details.delete(index)) this.#changed.add(index);
  }

  /** An intent: the attempt is counted here, before anything is handed over. */
  begin(index: number, at: number): void {
    const kept = keptDetail(this.#details.get(index));
    this.#attempts[index] = this.attempts(index) + 1;
    this.set(index, 'sending', at, kept);
  }

  /** Takes an intent back whose hand-over never began, or which cost the recipient nothing: the attempt is not counted. */
  withdraw(index: number, at: number, detail?: Detail): void {
    const attempts = Math.max(0, this.attempts(index) - 1);
    this.#attempts[index] = attempts;
    this.set(index, attempts === 0 && detail?.dueAt === undefined ? 'pending' : 'retrying', at, detail);
  }

  /** A person asks for another round: attempts start anew, and so does the idempotency key. */
  renew(index: number, generation: number, at: number): void {
    this.#generations ??= new Uint16Array(this.size);
    this.#generations[index] = generation;
    this.#attempts[index] = 0;
    this.set(index, 'pending', at);
  }

  /** The same, but not before the earlier hand-over must have ended: until then its attempt stays what it was. */
  renewLater(index: number, generation: number, detail: Detail): void {
    const attempts = this.attempts(index);
    this.renew(index, generation, this.at(index));
    this.#attempts[index] = attempts;
    this.set(index, 'unsettled', this.at(index), detail);
  }

  columns(): Columns {
    const generations = this.#generations;
    return {
      states: Buffer.from(this.#letters).toString('latin1'),
      at: Buffer.from(this.#at),
      attempts: Buffer.from(this.#attempts),
      ...(generations === undefined ? {} : { generations: encodeGenerations(generations) }),
    };
  }

  /** The details to write: a value to set, `undefined` to remove. Forgets them, so each is written once. */
  takeChangedDetails(): Map<number, Detail | undefined> {
    const changed = new Map([...this.#changed].map((index) => [index, this.#details.get(index)]));
    this.#changed = new Set();
    return changed;
  }

  /** The write of this detail did not happen: write it again. */
  keepChanged(index: number): void {
    this.#changed.add(index);
  }

  /** When the earliest retry is due; undefined when none is retrying. */
  nextDueAt(): number | undefined {
    let earliest: number | undefined;
    if (this.counts.retrying === 0) return undefined;
    for (const index of this.indices('retrying')) {
      const due = this.#details.get(index)?.dueAt ?? 0;
      if (earliest === undefined || due < earliest) earliest = due;
    }
    return earliest;
  }

  /** Every recipient has its final outcome. */
  get settled(): boolean {
    return settledCount(this.counts) === this.size;
  }
}

/** What outlasts an intent, and an intent that is taken back. */
export function keptDetail(detail: Detail | undefined): Detail | undefined {
  if (detail === undefined) return undefined;
  const { providerFailures, deaths } = detail;
  if (providerFailures === undefined && deaths === undefined) return undefined;
  return {
    ...(providerFailures === undefined ? {} : { providerFailures }),
    ...(deaths === undefined ? {} : { deaths }),
  };
}

function decodeGenerations(stored: Uint8Array | undefined, size: number): Uint16Array | undefined {
  if (stored === undefined) return undefined;
  const bytes = Buffer.from(stored);
  return Uint16Array.from({ length: size }, (_, index) => bytes.readUInt16LE(index * 2));
}

function encodeGenerations(generations: Uint16Array): Uint8Array {
  const bytes = Buffer.alloc(generations.length * 2);
  for (const [index, value] of generations.entries()) bytes.writeUInt16LE(value, index * 2);
  return bytes;
}
