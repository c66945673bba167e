/** The whole public API on one screen. */
export type { AlertOptions } from './alert-options.ts';
export type { AlertList, Alerts, ListAlertsOptions } from './alerts.ts';
export type { AudienceOfSource, AudienceRows, AudienceSource } from './audience-input.ts';
export type { BreakerOptions } from './breaker-options.ts';
export type { BreakerStatus, Breakers } from './breakers.ts';
export type { By, OfRun } from './campaign-changes.ts';
export type { CampaignHealth, CampaignHealthList, ListHealthOptions } from './campaign-health.ts';
export type { CampaignInput, RetryInput } from './campaign-input.ts';
export type { CampaignFilter } from './campaign-list.ts';
export type { CampaignScheduler, Versions } from './campaign-scheduler.ts';
export type { Campaign } from './campaign-view.ts';
export type { Campaigns, Progress, ResolveUnknownOptions, RetryFailedOptions } from './campaigns.ts';
export { type Clock, systemClock } from './clock.ts';
export { DEFAULTS, type SchedulerOptions } from './config.ts';
export type { AlertLevel } from './core/alert-policy.ts';
export type { BreakerState } from './core/breaker.ts';
export type { HealthVerdict, HealthWord } from './core/campaign-health.ts';
export type { CampaignStatus, RunStatus } from './core/campaign-machine.ts';
export type { Checkpoint } from './core/checkpoint.ts';
export type { Counts, DeliveryState } from './core/ledger-page.ts';
export type { SkipReason } from './core/misfire.ts';
export type { Resolution } from './core/orders.ts';
export type { MeasuredRate } from './core/progress-rate.ts';
export type { Rate } from './core/rate.ts';
export type { AudienceRow } from './core/recipient.ts';
export type { MonthDay, Recurrence, RecurrenceInput } from './core/recurrence-rule.ts';
export type { SendWindow, SendWindowInput } from './core/send-window-check.ts';
export type { PartStatus, ServiceHealth } from './core/service-health.ts';
export type { OnUnknown } from './core/settlement.ts';
export type { OtherCampaign, Reason, ReasonCode, Standing } from './core/standing.ts';
export type { Weekday } from './core/weekdays.ts';
export type { Delivery, DeliveryList, ListDeliveriesOptions } from './deliveries.ts';
export type { Audit } from './delivery/books.ts';
export { CampaignSchedulerError, type ErrorCode, type Problem, ValidationError } from './errors.ts';
export type { DeliveryEvent, EventListener, EventMap, EventName } from './events.ts';
export type { FailureReport, FailuresOptions } from './failures.ts';
export type { HealthOptions } from './health-options.ts';
export { type CampaignRouterOptions, createCampaignRouter, type RouterAction } from './http/router.ts';
export { type Logger, type LogLevel, lineLogger } from './logger.ts';
export { type DryRunOptions, dryRunMessenger } from './messengers/dry-run.ts';
export {
  type Content,
  DeliveryError,
  type FailureKind,
  type Message,
  type Messenger,
  type Recipient,
  type Reconciliation,
  type SendContext,
  type SendResult,
} from './messengers/messenger.ts';
export { smtpMessenger } from './messengers/smtp.ts';
export type { SmtpMessengerOptions } from './messengers/smtp-options.ts';
export type {
  NextOccurrenceEntry,
  OccurrenceList,
  PastOccurrence,
} from './occurrences.ts';
export type { SchedulePreview, SchedulePreviewInput } from './preview-schedule.ts';
export type { CampaignUpdate } from './recurring.ts';
export { startCampaignScheduler } from './scheduler.ts';
export {
  type AlertSink,
  type AlertSinkContext,
  type MessengerSinkOptions,
  messengerSink,
  type WebhookSinkOptions,
  webhookSink,
} from './services/alert-sinks.ts';
export type { RecoveredCampaign, RecoveryReport, SkippedCampaign } from './services/recovery-pass.ts';
export type { Alert } from './store/alerts.ts';
export type { RunReport, StatusReason } from './store/documents.ts';
export type { WatchdogOptions } from './watchdog-options.ts';
export type { CampaignOverview, Why } from './why.ts';
export type { WorkerView } from './worker-list.ts';
