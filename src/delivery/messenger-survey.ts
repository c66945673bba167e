/** How the campaigns with an open run stand, by the messenger that they go out by, as this worker knows them. Reads only. */
import { isHeldByBreaker } from '../core/campaign-machine.ts';
import type { MessengerLine } from './messenger-line.ts';
import { hasHint, type OpenRun } from './open-runs.ts';

export interface MessengerSurvey {
  /** Something is to be sent by it right now. */
  readonly busy: boolean;
  /** A campaign is in progress. */
  readonly moving: boolean;
  /** A campaign is paused by the breaker. */
  readonly held: boolean;
  /** The worker takes pages: it is not stopping, and others know that it lives. */
  readonly takesPages: boolean;
}

/** `maySend`: may pages of it be claimed to send, or only to apply orders? */
export function surveyMessengers(
  lines: Iterable<MessengerLine>,
  openRuns: Iterable<OpenRun>,
  takesPages: boolean,
  maySend: (entry: OpenRun) => boolean,
): Map<string, MessengerSurvey> {
  const found = new Map<string, { busy: boolean; moving: boolean; held: boolean; takesPages: boolean }>();
  const of = (name: string) => {
    const known = found.get(name) ?? { busy: false, moving: false, held: false, takesPages };
    found.set(name, known);
    return known;
  };
  for (const line of lines) of(line.name).busy = line.users + line.claiming > 0;
  for (const entry of openRuns) {
    const { campaign } = entry;
    const survey = of(campaign.messenger);
    if (campaign.status === 'processing') survey.moving = true;
    if (isHeldByBreaker(campaign)) survey.held = true;
    if (!survey.busy && hasHint(entry) && maySend(entry)) survey.busy = true;
  }
  return found;
}
