/** A worker that starts an embedded server as an app would, writes one document and then does what its mode says. */
import { MongoClient } from 'mongodb';
import { startEmbeddedMongo } from '../../src/embedded/index.ts';

const [dataDir = '', mode = 'stay', replicaSet = 'true'] = process.argv.slice(2);
const server = await startEmbeddedMongo({ dataDir, replicaSet: replicaSet === 'true' });
const client = await MongoClient.connect(server.uri);
const marks = client.db().collection('marks');
await marks.insertOne({ by: process.pid }, { writeConcern: { w: 'majority', j: true } });
process.send?.({ kind: 'ready', uri: server.uri, pid: server.pid, marks: await marks.countDocuments() });
await client.close();
if (mode === 'stay') process.on('message', () => {});
else process.channel?.unref();
