/**
 * mongoose models of the documents an app may read and extend. Made on the scheduler's connection, never on the global
 * one, under names of their own; reading through them is safe, the engine itself never writes through them.
 */
import { type Model, Schema } from 'mongoose';
import type { CampaignDoc, RunDoc } from './documents.ts';
import type { Store } from './store.ts';

export interface Models {
  readonly Campaign: Model<CampaignDoc>;
  readonly CampaignRun: Model<RunDoc>;
}

export function defineModels(store: Store): Models {
  const model = <T>(name: string, id: unknown, collection: string): Model<T> =>
    (store.connection.models[name] as Model<T> | undefined) ??
    store.connection.model<T>(
      name,
      new Schema<T>({ _id: id } as never, {
        strict: false,
        autoIndex: false,
        autoCreate: false,
        versionKey: false,
        minimize: false,
      }),
      collection,
    );
  return {
    Campaign: model<CampaignDoc>(
      'CampaignSchedulerCampaign',
      Schema.Types.ObjectId,
      store.campaigns.collectionName,
    ),
    CampaignRun: model<RunDoc>('CampaignSchedulerRun', String, store.runs.collectionName),
  };
}
