/** Plays one round of faults in a lane, and returns what was wrong with it. */
import { writeFileSync } from 'node:fs';
import { ObjectId } from 'mongodb';
import type { Worker } from '../support/processes.ts';
import { type Lane, tell } from './lane.ts';
import { type CampaignPlan, type Kill, type Round, RUNS } from './plans.ts';
import { healFile } from './providers.ts';
import { remains, runIds } from './remains.ts';
import { rows } from './rows.ts';
import { accepted, readLog } from './send-log.ts';
import { type RoundFacts, verify, verifyOccurrences } from './verify.ts';

const REFUSED_EVERY = 5;
/** Nothing may be left out, however late it is. */
const EVERY_SECOND = { every: { seconds: 1 }, maxRuns: RUNS, misfire: 'all', overlap: 'queue' } as const;

export interface Outcome {
  readonly complaints: string[];
  /** Steps at which workers ended themselves. */
  readonly steps: string[];
  readonly deaths: number;
  readonly unknown: number;
  readonly parked: number;
}

export async function play(lane: Lane, round: Round, name: string): Promise<Outcome> {
  const player = new Player(lane, round, name);
  return player.play();
}

class Player {
  readonly #lane: Lane;
  readonly #round: Round;
  readonly #name: string;
  readonly #complaints: string[] = [];
  #ids: string[] = [];
  /** The plan of each campaign that exists. */
  readonly #plans = new Map<string, CampaignPlan>();
  readonly #parked = new Set<string>();
  #deaths = 0;

  constructor(lane: Lane, round: Round, name: string) {
    this.#lane = lane;
    this.#round = round;
    this.#name = name;
  }

  async play(): Promise<Outcome> {
    const { logFile, troubles } = this.#lane;
    const before = readLog(logFile).length;
    let unknown = 0;
    try {
      await this.#fault();
      await this.#finish();
      unknown = await this.#judge();
    } catch (error) {
      this.#complaints.push(
        error instanceof Error ? String(error.stack) : String(error),
        await remains(this.#lane.db, this.#ids),
      );
    }
    this.#lane.hearSurvivor();
    this.#complaints.push(...troubles.splice(0));
    if (this.#complaints.length > 0) this.#complaints.push(JSON.stringify(this.#round));
    const entries = readLog(logFile).slice(before);
    const steps = entries.flatMap(({ kind, step }) => (kind === 'kill' && step !== undefined ? [step] : []));
    return { complaints: this.#complaints, steps, deaths: this.#deaths, unknown, parked: this.#parked.size };
  }

  async #fault(): Promise<void> {
    const { scenario, company } = this.#round;
    if (scenario === 'create') return this.#createAndDie();
    // Whoever lives on from the round before must not take the steps at which another one is to die.
    if (!company) await this.#lane.rest();
    await this.#create();
    if (scenario === 'retry') await this.#failFirst();
    if (scenario === 'resolve') await this.#leaveUnknown();
    if (company) await this.#lane.survive();
    else await this.#lane.rest();
    await this.#die();
  }

  // ---- before the fault ---------------------------------------------------------------------------------------------

  #input(plan: CampaignPlan, index: number) {
    const { scenario } = this.#round;
    const { count, messenger, onUnknown, concurrency } = plan;
    const params = { count, ...(scenario === 'retry' ? { refusedEvery: REFUSED_EVERY } : {}) };
    return {
      name: `${this.#name}.${index}`,
      messenger,
      content: {},
      audience: scenario === 'source' ? { source: 'rows', params } : rows(params),
      concurrency,
      onUnknown,
      retry: { maxAttempts: 20, firstDelayMs: 50 },
      ...(scenario === 'recur' ? { recurrence: EVERY_SECOND } : {}),
    };
  }

  async #create(): Promise<void> {
    for (const [index, plan] of this.#round.campaigns.entries()) {
      const id = await this.#lane.create(this.#input(plan, index));
      this.#ids.push(id);
      this.#plans.set(id, plan);
    }
  }

  /** The worker that creates the campaigns dies of it. What it had promised exists; at most one more does. */
  async #createAndDie(): Promise<void> {
    const lane = this.#lane;
    await lane.rest();
    const [kill] = this.#round.kills;
    const worker = await lane.victim(kill !== undefined && 'step' in kill ? kill : undefined);
    const inputs = this.#round.campaigns.map((plan, index) => this.#input(plan, index));
    await worker.next('started');
    for (const input of inputs) tell(worker, { kind: 'create', input });
    await lane.until('created', async () => createdBy(worker).length === inputs.length, worker);
    await this.#bury(worker);
    const created = new Set(createdBy(worker));
    for (const [index, { name }] of inputs.entries()) {
      const [found, another] = await lane.api.campaigns.list({ name });
      if (another !== undefined) this.#complaints.push(`${name} exists twice`);
      if (found === undefined) continue;
      created.delete(found.id);
      this.#ids.push(found.id);
      this.#plans.set(found.id, this.#round.campaigns[index] as CampaignPlan);
    }
    for (const id of created) this.#complaints.push(`${id} was created and does not exist`);
  }

  /** A first run in peace: some are refused for good. Then the provider heals. */
  async #failFirst(): Promise<void> {
    await this.#lane.survive();
    await this.#settled();
    for (const id of this.#ids) writeFileSync(healFile(this.#lane.logFile, id), '');
  }

  /** A first crash leaves some unknown. */
  async #leaveUnknown(): Promise<void> {
    await this.#lane.rest();
    const worker = await this.#lane.victim({ step: 'after the messenger accepted', occurrence: 30 });
    await this.#deathOf(worker);
    await this.#lane.survive();
    await this.#settled();
  }

  // ---- the fault ----------------------------------------------------------------------------------------------------

  async #die(): Promise<void> {
    const { scenario, kills } = this.#round;
    const [first] = kills;
    const orderedByVictim = first !== undefined && 'step' in first && first.step.endsWith('giving an order');
    if (!orderedByVictim && (scenario === 'retry' || scenario === 'resolve')) await this.#order();
    for (const [index, kill] of kills.entries()) {
      const worker = await this.#lane.victim('step' in kill ? kill : undefined);
      if (orderedByVictim && index === 0) {
        for (const id of this.#ids) tell(worker, { kind: 'retry-failed', id });
        const ordered = (): number => worker.messages.filter(({ kind }) => kind === 'ordered').length;
        await this.#lane.until('the orders', async () => ordered() === this.#ids.length, worker);
      }
      if (scenario === 'cancel' && index === 0) await this.#cancelHalfWay(worker);
      await this.#deathOf(worker, kill);
    }
    if (orderedByVictim) await this.#order();
  }

  async #order(): Promise<void> {
    const { campaigns } = this.#lane.api;
    const { scenario, named } = this.#round;
    for (const id of this.#ids) {
      if (scenario === 'resolve') await campaigns.resolveUnknown(id, { as: 'resend' });
      else await campaigns.retryFailed(id, named ? { recipients: ['r0', `r${REFUSED_EVERY}`] } : {});
    }
  }

  async #cancelHalfWay(worker: Worker): Promise<void> {
    const { api, logFile } = this.#lane;
    const begun = async (): Promise<boolean> =>
      this.#ids.every((id) => accepted(logFile, id).length > 5) || (await this.#isSettled());
    await this.#lane.until('half-way', begun, worker);
    for (const id of this.#ids) {
      await api.campaigns.cancel(id).catch((error: unknown) => {
        if ((error as { code?: string }).code !== 'refused') throw error; // it had ended already
      });
    }
  }

  /** Waits for a worker to die as planned; one that found nothing more to do is killed. */
  async #deathOf(worker: Worker, kill?: Kill): Promise<void> {
    if (kill !== undefined && 'afterMs' in kill) {
      await worker.next('started');
      await new Promise((resolve) => setTimeout(resolve, kill.afterMs)); // an instant like any other
    } else {
      await this.#lane.until('a death', () => this.#isSettled(), worker);
    }
    await this.#bury(worker);
  }

  async #bury(worker: Worker): Promise<void> {
    this.#deaths += 1;
    await worker.kill();
    this.#lane.hear(worker);
  }

  // ---- afterwards ---------------------------------------------------------------------------------------------------

  async #finish(): Promise<void> {
    await this.#lane.survive();
    await this.#settled();
    const { campaigns } = this.#lane.api;
    // Those whom a named order left out, whose order died before it was given, or who were in flight at another death.
    for (const id of this.#ids) {
      const progress = await campaigns.progress(id);
      const { scenario } = this.#round;
      if (scenario === 'retry' && (progress?.failed ?? 0) > 0) await campaigns.retryFailed(id);
      if (scenario === 'resolve' && (progress?.unknown ?? 0) > 0) {
        await campaigns.resolveUnknown(id, { as: 'resend' });
      }
    }
    await this.#settled();
  }

  async #settled(): Promise<void> {
    await this.#lane.until(
      `the end of ${this.#name}`,
      async () => (await this.#isSettled()) || this.#release(),
    );
  }

  /** Read with majority, as the API reads: an end that only this server's memory knows of is none yet. */
  async #isSettled(): Promise<boolean> {
    const campaigns = this.#lane.db.collection('campaigns', { readConcern: { level: 'majority' } });
    const open = await campaigns.countDocuments({
      _id: { $in: this.#ids.map((id) => new ObjectId(id)) },
      $or: [{ status: { $nin: ['completed', 'cancelled'] } }, { 'openRuns.0': { $exists: true } }],
    });
    return open === 0;
  }

  /** Three deaths in a row put a page aside; a person lets it go on. */
  async #release(): Promise<boolean> {
    const parked = await this.#lane.db
      .collection('ledger_pages')
      .find({ runId: { $in: await runIds(this.#lane.db, this.#ids) }, status: 'parked' })
      .toArray();
    for (const page of parked) {
      if (page.deaths < 3) this.#complaints.push(`parked after ${page.deaths} deaths: ${page._id}`);
      const [id = ''] = String(page.runId).split(':');
      if ((await this.#lane.api.campaigns.find(id))?.status !== 'processing') continue;
      this.#parked.add(String(page._id));
      await this.#lane.api.campaigns.releaseParked(id);
    }
    return false;
  }

  async #judge(): Promise<number> {
    const { api, db, logFile } = this.#lane;
    const { scenario } = this.#round;
    let unknown = 0;
    await this.#lane.sweep();
    for (const [id, plan] of this.#plans) {
      const cancelled = (await api.campaigns.find(id))?.status === 'cancelled';
      if (cancelled && scenario !== 'cancel') this.#complaints.push(`${id} was cancelled by nobody`);
      const facts: Omit<RoundFacts, 'occurrence'> = {
        id,
        onUnknown: plan.onUnknown,
        concurrency: plan.concurrency,
        total: plan.count,
        deaths: this.#deaths,
        status: cancelled ? 'cancelled' : 'completed',
        ...(scenario === 'resolve' ? { resent: true, everybody: true } : {}),
      };
      for (const occurrence of await this.#occurrences(id)) {
        const verdict = await verify(api, db, logFile, { ...facts, occurrence });
        this.#complaints.push(...verdict.complaints);
        unknown += verdict.unknown;
      }
    }
    return unknown;
  }

  async #occurrences(id: string): Promise<string[]> {
    if (this.#round.scenario !== 'recur') return ['once'];
    const { complaints, occurrences } = await verifyOccurrences(this.#lane.db, id, RUNS);
    this.#complaints.push(...complaints);
    return occurrences;
  }
}

const createdBy = (worker: Worker): string[] =>
  worker.messages.flatMap(({ kind, id }) => (kind === 'created' ? [String(id)] : []));
