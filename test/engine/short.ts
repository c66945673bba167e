/** Short times for schedulers of tests. */
export const SHORT = {
  claimTtlMs: 2_000,
  claimMarginMs: 400,
  heartbeatMs: 200,
  workerOfflineAfterMs: 6_000,
  lockLifetimeMs: 2_000,
  processEveryMs: 100,
  pollMs: 100,
  recoverEveryMs: 60_000,
  sendTimeoutMs: 20_000,
  pageSize: 10,
} as const;

/** For tests whose provider fails at will, of what is not about breakers. */
export const NO_BREAKER = { breaker: false } as const;
