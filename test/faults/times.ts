/** Short times for the workers of the fault tests: a dead holder is noticed after a second. */
export const TIMES = {
  claimTtlMs: 1_000,
  sendTimeoutMs: 1_000,
  pollMs: 200,
  processEveryMs: 300,
  lockLifetimeMs: 1_000,
  recoverEveryMs: 1_500,
  heartbeatMs: 500,
} as const;
