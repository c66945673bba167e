/**
 * A lane: one database in which rounds of faults follow one another. It has an API of its own in the test process (which
 * never sends), a long-lived process for the workers that survive, and a warm process that is the next to die.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Db } from 'mongodb';
import { type CampaignInput, type CampaignScheduler, startCampaignScheduler } from '../../src/index.ts';
import { sweepUnbegun } from '../../src/services/sweeper.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import { type Message, startWorker, type Worker } from '../support/processes.ts';
import type { KillPlan } from './kill-steps.ts';
import { declaredProviders } from './providers.ts';
import { sourceRows } from './rows.ts';
import { TIMES } from './times.ts';
import type { StartOrder, WorkerOrder } from './worker.ts';

export interface LaneOptions {
  readonly uri: string;
  readonly db: Db;
  readonly seed: number;
  readonly options: StartOrder['options'];
}

const SCRIPT = new URL('./worker.ts', import.meta.url);
const PATIENCE_MS = 120_000;
const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

export class Lane {
  readonly db: Db;
  readonly api: CampaignScheduler;
  /** For what nobody may be kept waiting an hour for. */
  readonly #store: Store;
  readonly #options: LaneOptions;
  readonly #folder: string;
  /** The log of all messengers of this lane. */
  readonly logFile: string;
  #survivor: Worker | undefined;
  #surviving = false;
  #warm: Worker | undefined;
  #starts = 0;
  /** What workers complained of. */
  readonly troubles: string[] = [];

  private constructor(options: LaneOptions, api: CampaignScheduler, store: Store) {
    this.#options = options;
    this.#store = store;
    this.db = options.db;
    this.api = api;
    this.#folder = mkdtempSync(join(tmpdir(), 'campaign-scheduler-faults-'));
    this.logFile = join(this.#folder, 'hand-overs.log');
  }

  static async open(options: LaneOptions): Promise<Lane> {
    const api = await startCampaignScheduler({
      mongo: options.uri,
      worker: false,
      messengers: declaredProviders(),
      audiences: { rows: (params) => sourceRows(params) },
      logger: quiet,
      ...TIMES,
      ...options.options,
    });
    return new Lane(
      options,
      api,
      await openStore({ mongo: options.uri, collectionPrefix: '', journalDays: 90 }),
    );
  }

  async close(): Promise<void> {
    for (const worker of [this.#survivor, this.#warm]) {
      if (worker === undefined) continue;
      this.#listenTo(worker);
      await worker.kill();
    }
    await this.api.stop();
    await this.#store.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Starts a worker that will die, in the warm process, and warms the next. */
  async victim(plan: KillPlan | undefined, options?: Partial<StartOrder>): Promise<Worker> {
    const worker = this.#warm ?? this.#fork();
    this.#warm = this.#fork();
    await worker.next('ready');
    const start = this.#startOrder(plan);
    tell(worker, { ...start, ...options });
    return worker;
  }

  /** Starts the surviving worker, if it does not live already. */
  async survive(): Promise<Worker> {
    if (this.#survivor === undefined) {
      this.#survivor = this.#fork();
      await this.#survivor.next('ready');
    }
    if (!this.#surviving) {
      tell(this.#survivor, this.#startOrder(undefined));
      await this.#survivor.next('started');
      this.#surviving = true;
    }
    return this.#survivor;
  }

  /** Stops the surviving worker in order; its process stays for the next. */
  async rest(): Promise<void> {
    if (this.#survivor === undefined || !this.#surviving) return;
    this.#surviving = false;
    tell(this.#survivor, { kind: 'stop' });
    await this.#survivor.next('stopped');
  }

  /** What a worker laid for a run that had been cancelled, and died before it took it away. */
  sweep(): Promise<void> {
    return sweepUnbegun(this.#store, 0);
  }

  sp() {
    return this.#survivor?.pid ?? 0;
  }
  create(input: CampaignInput): Promise<string> {
    return this.api.campaigns.create(input).then(({ id }) => id);
  }

  /** Waits until `done` says so, or the worker has died. Polls: what is waited for may be done by any process. */
  async until(what: string, done: () => Promise<boolean>, unlessDead?: Worker): Promise<void> {
    const late = performance.now() + PATIENCE_MS;
    let dead = false;
    void unlessDead?.exit.then(() => {
      dead = true;
    });
    while (!(dead || (await done()))) {
      if (performance.now() > late) throw new Error(`${what}: not within ${PATIENCE_MS} ms`);
      const pause = new Promise((resolve) => setTimeout(resolve, 100));
      await (unlessDead === undefined ? pause : Promise.race([pause, unlessDead.exit]));
    }
  }

  /** Complaints of a worker that is gone, or of all that live. */
  hear(worker: Worker): void {
    this.#listenTo(worker);
  }
  hearSurvivor(): void {
    if (this.#survivor !== undefined) this.#listenTo(this.#survivor);
  }

  #heard = new WeakMap<Worker, number>();
  #listenTo(worker: Worker): void {
    const from = this.#heard.get(worker) ?? 0;
    this.#heard.set(worker, worker.messages.length);
    for (const message of worker.messages.slice(from)) {
      if (isTrouble(message)) this.troubles.push(JSON.stringify(message));
    }
  }

  #startOrder(plan: KillPlan | undefined): StartOrder {
    this.#starts += 1;
    const { uri, seed, options } = this.#options;
    return { kind: 'start', uri, logFile: this.logFile, seed: seed + this.#starts, plan, options };
  }

  #fork(): Worker {
    return startWorker(SCRIPT);
  }
}

export const tell = (worker: Worker, order: WorkerOrder): void => worker.send({ ...order });

function isTrouble(message: Message): boolean {
  if (message.kind === 'unhandled' || message.kind === 'refused') return true;
  return message.kind === 'log' && message.level === 'error' && !/put aside/.test(String(message.message));
}
