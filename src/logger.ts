/** The logger port: any pino-like logger fits. By default readable lines on standard error. */

export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

const RANK: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3, silent: 4 };

/** `10:01:02 info  message key=value …`: one line an entry, errors by their message, nothing multi-line. */
export function lineLogger(
  options: { level?: LogLevel; write?: (line: string) => void; now?: () => Date } = {},
): Logger {
  const threshold = RANK[options.level ?? 'info'];
  const write = options.write ?? ((line) => process.stderr.write(`${line}\n`));
  const now = options.now ?? (() => new Date());
  const at =
    (level: Exclude<LogLevel, 'silent'>) =>
    (fields: object, message: string): void => {
      if (RANK[level] < threshold) return;
      const parts = Object.entries(fields).map(([key, value]) => `${key}=${printable(value)}`);
      write([now().toISOString().slice(11, 19), level.padEnd(5), message, ...parts].join(' '));
    };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

function printable(value: unknown): string {
  if (value instanceof Error) return JSON.stringify(value.message);
  if (value instanceof Date) return value.toISOString();
  if (typeof value === 'string') return /^[\w.:@/+-]+$/.test(value) ? value : JSON.stringify(value);
  return JSON.stringify(value) ?? String(value);
}
