/**
 * A frozen audience becomes that of a run: its ledger pages first, then the run's guarded write, which counts. Any worker
 * may do this or repeat it, also at the same time as another.
 */
import { zoneOf } from '../core/send-window.ts';
import { RECIPIENT_ZONE } from '../core/send-window-check.ts';
import { audienceZones, readAudience } from '../store/audiences.ts';
import type { AudienceDoc, RunDoc } from '../store/documents.ts';
import { deleteUntouchedPages, insertLedgerPages } from '../store/ledger-pages.ts';
import { adoptAudience, hasNeverBegun } from '../store/runs.ts';
import type { Store } from '../store/store.ts';

export type FrozenAudience = Pick<AudienceDoc, '_id' | 'pages' | 'total' | 'duplicates' | 'rejected'>;

export async function adopt(store: Store, run: RunDoc, audience: FrozenAudience): Promise<void> {
  const zoneOfPage = await zonesOfPages(store, run, audience._id);
  await insertLedgerPages(store, run._id, audience.pages, zoneOfPage);
  const { pages, total, duplicates } = audience;
  const adopted = await adoptAudience(store, run._id, {
    audienceId: audience._id,
    pages,
    total,
    duplicates,
    rejected: audience.rejected.count,
    ...(zoneOfPage === undefined ? {} : { zones: zonesOf(audience.pages, zoneOfPage) }),
  });
  if (adopted !== null) return;
  // Another worker has, or the run is over: then the pages are nobody's. Should this process die here, they are swept.
  if (await hasNeverBegun(store, run._id)) await deleteUntouchedPages(store, [run._id]);
}

/** The audience of a list that was frozen with its campaign, of at most `mostPages`. False: it is gone, or larger. */
export async function adoptList(
  store: Store,
  run: RunDoc,
  mostPages = Number.POSITIVE_INFINITY,
): Promise<boolean> {
  if (!('audienceId' in run.audience)) return false;
  const audience = await readAudience(store, run.audience.audienceId);
  if (audience?.state !== 'ready' || audience.pages > mostPages) return false;
  await adopt(store, run, audience);
  return true;
}

/** Whose hours hold for each page, where that differs. Zones that this runtime does not know count as none. */
async function zonesOfPages(
  store: Store,
  run: RunDoc,
  audienceId: string,
): Promise<((n: number) => string) | undefined> {
  const { window } = run.limits;
  if (window?.timezone !== RECIPIENT_ZONE) return undefined;
  const own = await audienceZones(store, audienceId);
  return (n) => zoneOf(window, own.get(n));
}

function zonesOf(pages: number, zoneOfPage: (n: number) => string): string[] {
  return [...new Set(Array.from({ length: pages }, (_, n) => zoneOfPage(n)))].sort();
}
