/**
 * `campaign-scheduler/embedded`: a real MongoDB server as a child process, for demos, development and small single-host
 * installations. Its data stays in a directory of yours and survives the death of the app and of the server.
 */

export { type EmbeddedMongo, type EmbeddedMongoOptions, startEmbeddedMongo } from './start-embedded-mongo.ts';
