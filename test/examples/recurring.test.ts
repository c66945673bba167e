/** The example of a recurring campaign runs: it says what its rule means, has three runs and ends. */
import { expect, test } from 'vitest';
import { PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import { startWorker } from '../support/processes.ts';

const { uri } = await testDatabase();

test('the program has its three runs and ends', async () => {
  const program = startWorker(new URL('../../examples/recurring.ts', import.meta.url), {
    env: { MONGO_URL: uri },
  });
  await expect.poll(() => program.stderr(), PATIENCE).toContain('stopped');
  const said = program.stderr(); // both streams
  expect(said).toMatch(/^every Monday and Friday at 09:00, Europe\/Berlin: \d{4}-.*Z, .*Z, .*Z$/m);
  expect(said.match(/^\d{4}-\d\d-\d\dT[\d:.]+Z: 1 sent$/gm)).toHaveLength(3);
  await program.kill();
});
