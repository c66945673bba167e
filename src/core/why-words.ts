/** A reason as a sentence for people. Invariant: it tells nothing that the reason's data does not hold as well. */
import type { Rate } from './rate.ts';
import type { Reason } from './standing.ts';

/** Instants are shown in UTC, so that the sentence is the same on every server; `now` tells how far away they are. */
export function inWords(reason: Reason, now: Date): string {
  const at = (instant: Date): string => `${shown(instant)} (${distance(instant, now)})`;
  const since = (ms: number): string => duration(ms);
  switch (reason.code) {
    case 'not_adopted':
      return 'Another program wrote this campaign; recovery takes it in when it is scheduled or processing and complete.';
    case 'newer_version':
      return 'A newer version of this package wrote it; workers of that version go on with it.';
    case 'draft':
      return 'It is a draft and has not been scheduled.';
    case 'paused':
      return `Paused${acted(reason)}. It goes on when somebody resumes it.`;
    case 'breaker_open':
      return breakerWords(reason, at);
    case 'cancelled':
      return `Cancelled${acted(reason)}.`;
    case 'failed':
      return `Failed${acted(reason)}.`;
    case 'completed':
      return 'It is complete; nothing is left to do.';
    case 'scheduled':
      return `It starts at ${at(reason.until)}.`;
    case 'next_occurrence':
      return `The next occurrence is at ${at(reason.until)}.`;
    case 'no_time':
      return 'It is scheduled, but has no time to start at.';
    case 'rule_ended':
      return 'Its rule has ended; it is about to be completed.';
    case 'opening':
      return 'It is due and about to begin.';
    case 'no_worker':
      return 'No worker is alive. Start one: a scheduler with `worker: true`.';
    case 'alarm_missing':
      return `It is ${since(reason.lateMs)} overdue and has no alarm; recovery sets it.`;
    case 'overdue':
      return overdueWords(reason, at);
    case 'no_run':
      return 'It is in progress, but no run of it is open. Another program must have changed it.';
    case 'no_worker_for_source':
      return `No live worker has the audience source \`${reason.source}\`.${lastError(reason)}`;
    case 'no_worker_for_messenger':
      return `No live worker has the messenger \`${reason.messenger}\`.`;
    case 'freezing':
      if (reason.source === undefined) return 'Its audience is being made ready.';
      return `The audience source \`${reason.source}\` is being read, attempt ${reason.attempt}.`;
    case 'freezing_lost':
      return `The worker that read the audience ${named(reason.source)}in attempt ${reason.attempt} is lost; another one begins anew.`;
    case 'freezing_retry':
      return `Attempt ${reason.attempt} to read the audience ${named(reason.source)}failed: ${reason.lastError}. ${
        reason.attemptsLeft === 0
          ? 'It is about to be given up.'
          : `Next attempt at ${at(reason.until)}, ${reason.attemptsLeft} left.`
      }`;
    case 'freezing_queued':
      return `Attempt ${reason.attempt} to read the audience ${named(reason.source)}is about to begin; a worker reads a few sources at a time.`;
    case 'applying_orders':
      return 'An order is being carried out on its pages.';
    case 'sending':
      return `It is sending: ${count(reason.pages, 'page')} with ${count(reason.workers.length, 'worker')}.`;
    case 'settling':
      return `A worker was lost. What it had begun to send is settled when its last send must have ended, at most ${since(reason.atMostMs)} after its pages were taken over.`;
    case 'taking_over':
      return `${count(reason.pages, 'page')} held by a lost worker; another worker takes over.`;
    case 'window_closed':
      return `Its send window is closed; it opens at ${at(reason.until)}, by the clock of ${reason.zone}.`;
    case 'rate':
      return `The limit of the ${reason.scope}, ${rateWords(reason.rate)}, is used up; it sends again at ${at(reason.until)}.`;
    case 'messenger_resting': {
      const why = reason.everywhere
        ? 'the provider asked for a rest'
        : 'it failed in every worker that has it';
      const then =
        reason.until === undefined ? 'it is being tried again' : `it is tried again at ${at(reason.until)}`;
      return `The messenger \`${reason.messenger}\` rests because ${why}; ${then}.`;
    }
    case 'waiting_for_turn':
      return turnWords(reason);
    case 'retry_at':
      return `${count(reason.recipients, 'recipient')} to be tried again at ${at(reason.until)} or later; nobody else is left.`;
    case 'parked':
      return `${count(reason.pages, 'page')} put aside because the workers that held them died three times in a row. Release them with \`releaseParked\`.`;
    case 'quarantined':
      return `It is complete but for ${count(reason.recipients, 'recipient')} put aside because workers were lost one after another while ${reason.recipients === 1 ? 'it was' : 'each was'} being handed over. Release them with \`releaseParked\`.`;
    case 'closing':
      return 'All recipients are accounted for; its books are being closed.';
  }
}

function acted({ by, since, detail }: { by?: string; since?: Date; detail?: string }): string {
  const who = by === undefined ? '' : ` by ${by}`;
  const when = since === undefined ? '' : ` at ${shown(since)}`;
  return `${who}${when}${detail === undefined ? '' : `: ${detail.replace(/\.$/, '')}`}`;
}

function breakerWords(
  { messenger, state, since, detail, until, openedBy }: Extract<Reason, { code: 'breaker_open' }>,
  at: (instant: Date) => string,
): string {
  if (state === 'closed') return `The messenger \`${messenger}\` works again; it goes on within moments.`;
  const when = since === undefined ? '' : ` since ${shown(since)}`;
  const because = detail === undefined ? '' : `: ${detail.replace(/\.$/, '')}`;
  const paused = `Paused${when} because the messenger \`${messenger}\` does not work${because}.`;
  if (openedBy !== undefined) {
    return `Paused${when}: ${openedBy} opened the breaker of the messenger \`${messenger}\`${because}. It stays so until somebody closes it.`;
  }
  if (state === 'half_open') {
    return `${paused} A few recipients are tried right now, one after another; when they get through, everything goes on.`;
  }
  const next = until === undefined ? '' : ` at ${at(until)}`;
  return `${paused} It is tried${next}, with a few recipients; when they get through, everything goes on by itself.`;
}

function overdueWords(
  { lateMs, until, heldBy }: Extract<Reason, { code: 'overdue' }>,
  at: (instant: Date) => string,
): string {
  const late = `It is ${duration(lateMs)} overdue`;
  if (until !== undefined) return `${late}: its alarm rings at ${at(until)} only; recovery sets it right.`;
  if (heldBy !== undefined)
    return `${late}: its alarm is held by a lost worker; another one takes it when the lock expires.`;
  return `${late}: its alarm has rung, but no worker has come to it yet.`;
}

function turnWords({ ahead, beside }: Extract<Reason, { code: 'waiting_for_turn' }>): string {
  const [first] = ahead;
  if (first !== undefined) {
    const others = ahead.length === 1 ? '' : ` and ${ahead.length - 1} more`;
    return `It waits for its turn behind \`${first.name}\`${others} of higher priority.`;
  }
  if (beside > 0) return `It takes turns with ${count(beside, 'other campaign')} of the same priority.`;
  return 'A worker is about to take its next page.';
}

function rateWords(rate: Rate): string {
  const [unit, value] = Object.entries(rate)[0] as [string, number];
  return `${value} per ${unit.slice('per'.length).toLowerCase()}`;
}

const named = (source: string | undefined): string => (source === undefined ? '' : `source \`${source}\` `);
const lastError = ({ lastError: error }: { lastError?: string }): string =>
  error === undefined ? '' : ` Last error: ${error}.`;
const count = (number: number, what: string): string =>
  `${number.toLocaleString('en-US')} ${what}${number === 1 ? '' : 's'}`;
/** `2026-03-29T07:00:00Z`; parts of a second where there are any. */
const shown = (instant: Date): string => instant.toISOString().replace('.000Z', 'Z');

function distance(instant: Date, now: Date): string {
  const ms = instant.getTime() - now.getTime();
  return ms >= 0 ? `in ${duration(ms)}` : `${duration(-ms)} ago`;
}

/** `3 s`, `5 min`, `2 h 10 min`, `4 d 3 h`. */
function duration(ms: number): string {
  const seconds = Math.ceil(ms / 1_000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  const days = Math.floor(hours / 24);
  return hours % 24 === 0 ? `${days} d` : `${days} d ${hours % 24} h`;
}
