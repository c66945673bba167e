/** What stands in the database of the campaigns of a round. */
import { type Db, ObjectId } from 'mongodb';

/** The runs they have had so far. */
export async function runIds(db: Db, ids: readonly string[]): Promise<string[]> {
  const campaignId = { $in: ids.map((id) => new ObjectId(id)) };
  const runs = await db
    .collection<{ _id: string }>('campaign_runs')
    .find({ campaignId }, { projection: { _id: 1 } })
    .toArray();
  return runs.map(({ _id }) => _id);
}

/** Those that do not end, with their open runs and pages, for people to read. */
export async function remains(db: Db, ids: readonly string[]): Promise<string> {
  const _id = { $in: ids.map((id) => new ObjectId(id)) };
  const campaigns = await db
    .collection('campaigns')
    .find({ _id, 'openRuns.0': { $exists: true } }, { projection: { audience: 0, content: 0 } })
    .toArray();
  const open: string[] = campaigns.flatMap(({ openRuns }) =>
    openRuns.map(({ runId }: { runId: string }) => runId),
  );
  const runs = await db
    .collection<{ _id: string }>('campaign_runs')
    .find({ _id: { $in: open } }, { projection: { content: 0 } })
    .toArray();
  const pages = await db
    .collection('ledger_pages')
    .find({ runId: { $in: open }, status: { $ne: 'done' } })
    .toArray();
  return JSON.stringify({ campaigns, runs, pages });
}
