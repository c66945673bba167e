/**
 * Alerts of breakers that nobody ends: the workers that have the messenger end them, and there may be none left. Invariant:
 * reads only; an alert is over when its breaker has been closed for two looks, or when no worker has the messenger and the
 * breaker holds no campaign.
 */
import { breakerOf } from '../core/breaker-document.ts';
import { type ReadBreaker, readBreakers } from '../store/breakers.ts';
import { heldByBreakers } from '../store/campaign-transitions.ts';
import { isNewer } from '../store/campaigns.ts';
import { messengerOf } from './breaker-alert.ts';
import { asRaised, type Check, type WatchdogContext } from './watchdog-check.ts';

export function checkBreakers({ store }: WatchdogContext): Check {
  /** Those that were over at the last look: whoever opens one raises its alert a moment later. */
  let over = new Set<string>();
  return {
    name: 'breakers',
    kinds: ['breaker'],
    look: async ({ raised, workers, live }) => {
      const told = raised.filter(({ kind }) => kind === 'breaker');
      const before = over;
      over = new Set();
      if (told.length === 0) return [];
      const [found, held] = await Promise.all([
        readBreakers(store, told.map(messengerOf)),
        heldByBreakers(store),
      ]);
      const had = new Set(
        workers.flatMap(({ _id, messengers }) => (live.has(_id) ? messengers.map(({ name }) => name) : [])),
      );
      for (const alert of told) {
        const messenger = messengerOf(alert);
        const nobodys = live.size > 0 && !had.has(messenger) && (held.get(messenger) ?? 0) === 0;
        if (nobodys || isClosed(found.get(messenger))) over.add(alert._id);
      }
      return told.filter(({ _id }) => !(over.has(_id) && before.has(_id))).map(asRaised);
    },
    forget: () => over.clear(),
  };
}

/** One without a document has never been opened; of a newer version's nothing is known, and nonsense is repaired first. */
function isClosed(read: ReadBreaker | undefined): boolean {
  if (read === undefined) return true;
  return !isNewer(read.document) && breakerOf(read.document, read.now)?.state === 'closed';
}
