/** Short times for schedulers of tests. On a busy machine a worker may stand still for seconds: it is not dead for that. */
export const SHORT = {
  claimTtlMs: 10_000,
  claimMarginMs: 1_000,
  heartbeatMs: 200,
  workerOfflineAfterMs: 30_000,
  lockLifetimeMs: 10_000,
  processEveryMs: 100,
  pollMs: 100,
  recoverEveryMs: 60_000,
  sendTimeoutMs: 60_000,
  pageSize: 10,
} as const;

/** For tests of what a worker does because another lives: a few seconds of silence say nothing. */
export const SURELY_ALIVE = { heartbeatMs: 5_000, workerOfflineAfterMs: 60_000 } as const;

/** For tests of workers that die: what they held is soon taken over. */
export const QUICK_TAKEOVER = {
  claimTtlMs: 2_000,
  claimMarginMs: 400,
  workerOfflineAfterMs: 6_000,
  lockLifetimeMs: 2_000,
} as const;

/** For tests whose provider fails at will, of what is not about breakers. */
export const NO_BREAKER = { breaker: false } as const;
