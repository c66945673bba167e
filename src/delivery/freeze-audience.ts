/**
 * Freezing: rows from a list, an iterable or a source become an immutable audience in pages. Invariant: no recipient id
 * stands twice in an audience (a set within the batch, a unique index across pages), and memory holds at most
 * `BUFFER_BYTES` of recipients however long the audience is.
 */
import { parseRecipient, type Recipient } from '../core/recipient.ts';
import { audiencePage, insertAudiencePages, knownRecipients } from '../store/audiences.ts';
import type { AudiencePageDoc, Rejection } from '../store/documents.ts';
import type { Store } from '../store/store.ts';

const PAGE_BYTES = 2 * 1024 * 1024;
const BUFFER_BYTES = 32 * 1024 * 1024;
const BATCH_PAGES = 16;
const BATCH_BYTES = 8 * 1024 * 1024;
const REJECTIONS_KEPT = 100;
const YIELD_ROWS = 5000;

export interface Frozen {
  readonly pages: number;
  readonly total: number;
  readonly duplicates: number;
  readonly rejected: { readonly count: number; readonly first: Rejection[] };
}

export interface FreezeOptions {
  readonly store: Store;
  readonly audienceId: string;
  readonly pageSize: number;
  /** Throws when the attempt must end: the lease is lost or the worker stops. Asked before every write. */
  readonly assertAlive: () => void;
  /** Rows read so far: written here, for whoever tells that the source goes on. */
  readonly progress?: { rows: number };
}

/** Reads all rows and writes all pages. Throws what the source throws; what was written until then is swept later. */
export async function freezeRows(
  rows: AsyncIterable<unknown> | Iterable<unknown>,
  options: FreezeOptions,
): Promise<Frozen> {
  const writer = new AudienceWriter(options);
  let row = 0;
  for await (const value of rows) {
    const full = writer.add(row, value);
    row += 1;
    if (options.progress !== undefined) options.progress.rows = row;
    if (full) await writer.writeSome();
    // A list in memory never waits by itself; let timers (the lease) run.
    else if (row % YIELD_ROWS === 0) await new Promise<void>((resolve) => setImmediate(resolve));
  }
  return writer.finish();
}

interface ZoneBuffer {
  recipients: Recipient[];
  bytes: number;
}

class AudienceWriter {
  readonly #options: FreezeOptions;
  /** Recipients that wait for a page, by time zone (`''`: none). */
  readonly #zones = new Map<string, ZoneBuffer>();
  /** Ids in the buffers and in the batch being written: the index knows the others. */
  readonly #ids = new Set<string>();
  #bufferedBytes = 0;
  #ready: { recipients: Recipient[]; bytes: number; timezone: string }[] = [];
  #readyBytes = 0;
  #writing: Promise<void> = Promise.resolve();
  #failure: unknown;
  #nextPage = 0;
  /** Page numbers given back because all recipients of the page were duplicates. */
  #freePages: number[] = [];
  #total = 0;
  #duplicates = 0;
  #rejected: { count: number; first: Rejection[] } = { count: 0, first: [] };

  constructor(options: FreezeOptions) {
    this.#options = options;
  }

  /** Takes one row. True: there is a batch to write. */
  add(row: number, value: unknown): boolean {
    const { recipient, rejected } = parseRecipient(value);
    if (recipient === undefined) {
      this.#rejected.count += 1;
      if (this.#rejected.first.length < REJECTIONS_KEPT) this.#rejected.first.push({ row, reason: rejected });
      return false;
    }
    if (this.#ids.has(recipient.id)) {
      this.#duplicates += 1;
      return false;
    }
    this.#ids.add(recipient.id);
    this.#buffer(recipient);
    return this.#ready.length >= BATCH_PAGES || this.#readyBytes >= BATCH_BYTES;
  }

  #buffer(recipient: Recipient): void {
    const bytes = bytesOf(recipient);
    const zone = recipient.timezone ?? '';
    let buffer = this.#zones.get(zone);
    if (buffer === undefined) {
      buffer = { recipients: [], bytes: 0 };
      this.#zones.set(zone, buffer);
    }
    if (buffer.bytes + bytes > PAGE_BYTES) this.#cut(zone, buffer);
    buffer.recipients.push(recipient);
    buffer.bytes += bytes;
    this.#bufferedBytes += bytes;
    if (buffer.recipients.length >= this.#options.pageSize) this.#cut(zone, buffer);
    else if (this.#bufferedBytes > BUFFER_BYTES) {
      const [fullest] = [...this.#zones].sort(([, a], [, b]) => b.bytes - a.bytes);
      if (fullest !== undefined) this.#cut(...fullest);
    }
  }

  #cut(timezone: string, buffer: ZoneBuffer): void {
    if (buffer.recipients.length === 0) return;
    this.#ready.push({ recipients: buffer.recipients, bytes: buffer.bytes, timezone });
    this.#readyBytes += buffer.bytes;
    this.#bufferedBytes -= buffer.bytes;
    buffer.recipients = [];
    buffer.bytes = 0;
  }

  /** Starts writing what is ready and waits for the batch before: reading and writing overlap, memory stays bounded. */
  async writeSome(): Promise<void> {
    const batch = this.#ready;
    this.#ready = [];
    this.#readyBytes = 0;
    await this.#settled();
    this.#writing = this.#write(batch).catch((error: unknown) => {
      this.#failure = error;
    });
  }

  async #settled(): Promise<void> {
    await this.#writing;
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #write(batch: { recipients: Recipient[]; bytes: number; timezone: string }[]): Promise<void> {
    const { store, audienceId, assertAlive } = this.#options;
    let pages = batch.map(({ recipients, bytes, timezone }) =>
      audiencePage(audienceId, this.#takeNumber(), recipients, bytes, timezone === '' ? undefined : timezone),
    );
    while (pages.length > 0) {
      assertAlive();
      const refused = await insertAudiencePages(store, pages);
      const refusedIds = new Set(refused.map((page) => page._id));
      for (const page of pages) if (!refusedIds.has(page._id)) this.#written(page);
      pages = refused.length === 0 ? [] : await this.#withoutDuplicates(refused);
    }
  }

  #takeNumber(): number {
    const free = this.#freePages.pop();
    if (free !== undefined) return free;
    this.#nextPage += 1;
    return this.#nextPage - 1;
  }

  #written(page: AudiencePageDoc): void {
    this.#total += page.recipients.length;
    for (const { id } of page.recipients) this.#ids.delete(id);
  }

  /** One query finds all duplicates of the refused pages; what is left of them is written again. */
  async #withoutDuplicates(refused: readonly AudiencePageDoc[]): Promise<AudiencePageDoc[]> {
    const left: AudiencePageDoc[] = [];
    for (const page of refused) {
      const ids = page.recipients.map((recipient) => recipient.id);
      const known = await knownRecipients(this.#options.store, this.#options.audienceId, ids);
      const recipients = page.recipients.filter((recipient) => !known.has(recipient.id));
      this.#duplicates += ids.length - recipients.length;
      for (const id of known) this.#ids.delete(id);
      if (recipients.length === 0) this.#freePages.push(page.n);
      else
        left.push({
          ...page,
          recipients,
          bytes: recipients.reduce((sum, recipient) => sum + bytesOf(recipient), 0),
        });
    }
    return left;
  }

  async finish(): Promise<Frozen> {
    for (const [zone, buffer] of this.#zones) this.#cut(zone, buffer);
    while (this.#ready.length > 0) {
      const rest = this.#ready.splice(BATCH_PAGES);
      await this.writeSome();
      this.#ready = rest;
    }
    await this.#settled();
    // Numbers have no gaps: a page that lost all its recipients stays, empty.
    const empty = this.#freePages.map((n) => audiencePage(this.#options.audienceId, n, [], 0));
    if (empty.length > 0) await insertAudiencePages(this.#options.store, empty);
    return {
      pages: this.#nextPage,
      total: this.#total,
      duplicates: this.#duplicates,
      rejected: this.#rejected,
    };
  }
}

/** About how many bytes a recipient takes in a document; errs on the large side for text. */
function bytesOf(recipient: Recipient): number {
  let bytes = 48 + recipient.id.length + recipient.to.length;
  const { vars } = recipient;
  if (vars === undefined) return bytes;
  for (const [key, value] of Object.entries(vars)) {
    bytes += key.length + 8;
    if (typeof value === 'string') bytes += value.length < 64 ? value.length : Buffer.byteLength(value);
    else if (typeof value === 'object' && value !== null) bytes += JSON.stringify(value).length * 2;
    else bytes += 8;
  }
  return bytes;
}
