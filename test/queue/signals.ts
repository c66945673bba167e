/** What a test waits on instead of sleeping: values that arrive one by one, and doors that it opens. */

const PATIENCE_MS = 60_000;

export class Signals<T> {
  readonly all: T[] = [];
  readonly #what: string;
  #waiting: (() => void)[] = [];
  #given = 0;

  constructor(what: string) {
    this.#what = what;
  }

  emit(value: T): void {
    this.all.push(value);
    for (const look of this.#waiting.splice(0)) look();
  }

  /** The first value that no `next` has given out yet. */
  async next(): Promise<T> {
    await this.count(this.#given + 1);
    const value = this.all[this.#given] as T;
    this.#given += 1;
    return value;
  }

  /** Resolves when this many values have arrived in all. */
  async count(count: number): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (this.all.length < count) {
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`${this.all.length} of ${count} signals (${this.#what}) arrived`);
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        timer = setTimeout(resolve, left);
      });
      clearTimeout(timer);
    }
  }
}

/** Handlers wait at it until the test opens it. */
export interface Door {
  readonly opened: Promise<void>;
  open(): void;
}

export function door(): Door {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
