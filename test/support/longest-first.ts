/** The order of the test files: those that wait longest for real time begin first, so that none of them is left alone at the end. */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Half a minute and more, the longest first. */
const LONG = [
  'cluster/outage',
  'faults/kill',
  'engine/bad-messengers',
  'engine/watchdog',
  'cluster/rates',
  'embedded/start',
  'cluster/boot',
  'cluster/sharing',
  'engine/recurring',
].map((name) => `/test/${name}.test.ts`);

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const others = await super.sort(files);
    const rank = ({ moduleId }: TestSpecification): number => {
      const place = LONG.findIndex((name) => moduleId.endsWith(name));
      return place < 0 ? LONG.length : place;
    };
    return others.toSorted((a, b) => rank(a) - rank(b));
  }
}
