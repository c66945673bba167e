/** The error that ends a process, as it is kept. Pure. Invariant: bounded, and without passwords, tokens and keys. */
import { withoutSecrets } from './redaction.ts';
import { cutUtf8 } from './retry.ts';

const MAX_ERROR_BYTES = 500;
const MAX_STACK_BYTES = 4_096;
/** What is longer is cut before it is looked at. */
const MAX_LOOKED_AT = 16_384;

export interface CrashText {
  /** `TypeError: x is not a function` */
  readonly error: string;
  readonly stack: string;
}

export function crashText(error: unknown): CrashText {
  const isError = error instanceof Error;
  const told = isError ? `${error.name}: ${error.message}` : `Thrown: ${printed(error)}`;
  const stack = isError ? causes(error).join('\nCaused by: ') : '';
  return { error: cutUtf8(clean(told), MAX_ERROR_BYTES), stack: cutUtf8(clean(stack), MAX_STACK_BYTES) };
}

/** The stacks of an error and of what caused it, a few links deep. */
function causes(error: Error): string[] {
  const stacks: string[] = [];
  for (let link: unknown = error; link instanceof Error && stacks.length < 4; link = link.cause) {
    stacks.push(String(link.stack ?? link.message));
  }
  return stacks;
}

function printed(value: unknown): string {
  try {
    return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);
  } catch {
    return typeof value;
  }
}

const clean = (text: string): string => withoutSecrets(text.slice(0, MAX_LOOKED_AT));
