/** Shows how far a campaign is: a bar on a terminal, a line for every tenth elsewhere. */

import { Presets, SingleBar } from 'cli-progress';
import { number } from './books.ts';

export interface ProgressView {
  update(done: number, total: number): void;
  end(): void;
}

export function progressView(output: NodeJS.WriteStream): ProgressView {
  return output.isTTY ? bar(output) : lines(output);
}

function bar(stream: NodeJS.WriteStream): ProgressView {
  const format = '  {bar} {percentage} %  {value} of {total}  {rate}/s';
  const shown = new SingleBar(
    { stream, format, hideCursor: true, clearOnComplete: false },
    Presets.shades_classic,
  );
  let first: { done: number; at: number } | undefined;
  return {
    update: (done, total) => {
      if (first === undefined) {
        first = { done, at: performance.now() };
        shown.start(total, done, { rate: '…' });
      }
      const seconds = (performance.now() - first.at) / 1_000;
      shown.update(done, { rate: seconds < 1 ? '…' : number(Math.round((done - first.done) / seconds)) });
    },
    end: () => shown.stop(),
  };
}

function lines(output: NodeJS.WriteStream): ProgressView {
  let tenth = -1;
  return {
    update: (done, total) => {
      const reached = total === 0 ? 10 : Math.floor((done / total) * 10);
      if (reached === tenth) return;
      tenth = reached;
      output.write(`  ${number(done)} of ${number(total)} handed over\n`);
    },
    end: () => {},
  };
}
