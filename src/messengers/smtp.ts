/**
 * Mail by SMTP: renders the templates of a campaign for one recipient and hands the mail to a server. Invariant: one
 * message has one `Message-ID`, the same in every attempt, and a failure says truthfully whether the mail can have left.
 * Nothing that this file throws holds a password.
 */

import { CampaignSchedulerError } from '../errors.ts';
import { type Content, DeliveryError, type Message, type Messenger } from './messenger.ts';
import { judge, SmtpFailure } from './smtp-failure.ts';
import { bareAddress, composeMail, mailbox } from './smtp-mime.ts';
import { resolveSmtpOptions, type SmtpMessengerOptions } from './smtp-options.ts';
import { createSmtpPool } from './smtp-pool.ts';
import { createTemplateCompiler, type MailTemplate, type RenderedMail } from './smtp-template.ts';

/**
 * A messenger that sends mail through an SMTP server. Needs the package `nodemailer`, which is loaded at the first mail.
 *
 * A campaign's content is `{ subject, html?, text?, headers? }` with at least one of `html` and `text`; all are Liquid
 * templates. They see the recipient's `vars` by name, and `recipient`, `campaign` and `run`. Values are escaped in
 * `html` (`| raw` leaves one as it is). `headers` are further headers by name, for example `List-Unsubscribe`.
 *
 * Failures: a refused recipient or mail (5xx) is `permanent`, a reply 4xx is `transient`; a refused connection, login or
 * sender, and 421, are `provider`; no answer after the mail was handed over is `unknown`.
 *
 * @throws ValidationError (`invalid_options`) that lists every wrong option, never with the password of a URL.
 */
export function smtpMessenger(options: SmtpMessengerOptions): Messenger {
  const { server, from, messageIdDomain, connections, timeoutMs, redact } = resolveSmtpOptions(options);
  const compiler = createTemplateCompiler();
  const pool = createSmtpPool(server, { connections, timeoutMs });
  const sender = mailbox(from.name, from.address);
  const compiled = new WeakMap<Content, MailTemplate>();

  const templateOf = (content: Content): MailTemplate => {
    let template = compiled.get(content);
    if (template === undefined) {
      template = compiler.compile(content);
      compiled.set(content, template);
    }
    return template;
  };

  const render = (message: Message): RenderedMail => {
    try {
      return templateOf(message.content)(message);
    } catch (error) {
      throw new DeliveryError('permanent', redact(messageOf(error)), { code: 'ETEMPLATE' });
    }
  };

  const asDeliveryError = (error: unknown): DeliveryError => {
    if (error instanceof DeliveryError) return error;
    const failure = error instanceof SmtpFailure ? error : new SmtpFailure('connecting', error);
    const { kind, code } = judge(failure);
    // No `cause`: what nodemailer throws holds the whole dialogue with the server.
    return new DeliveryError(kind, redact(failure.message), code === undefined ? {} : { code });
  };

  return {
    concurrency: connections,
    checkContent: (content) => {
      compiler.compile(content);
    },
    send: async (message, { signal }) => {
      const to = bareAddress(message.recipient.to);
      if (to === undefined) {
        const shown = JSON.stringify(message.recipient.to.slice(0, 100));
        throw new DeliveryError('permanent', `${shown} is not a mail address`, { code: 'EADDRESS' });
      }
      const rendered = render(message);
      const content = composeMail({
        from: sender,
        to,
        messageId: `<${message.idempotencyKey}@${messageIdDomain}>`,
        date: new Date(),
        ...rendered,
      });
      if (signal.aborted) throw new DeliveryError('provider', 'given up before sending', { code: 'EABORT' });
      try {
        const envelope = { from: from.address, to };
        const accepted = await pool.deliver(envelope, Buffer.from(content, 'latin1'), () => !signal.aborted);
        const providerId = accepted.serverMessageId ?? queueId(accepted.response);
        return providerId === undefined ? { status: 'sent' } : { status: 'sent', providerId };
      } catch (error) {
        throw asDeliveryError(error);
      }
    },
    verify: async () => {
      try {
        await pool.verify();
      } catch (error) {
        if (error instanceof CampaignSchedulerError) throw error;
        throw asDeliveryError(error);
      }
    },
    close: () => pool.close(),
  };
}

/** `250 2.0.0 Ok: queued as 4bXk2T0vQZ`: the number under which the server's own log has the mail. */
function queueId(response: string): string | undefined {
  return /\bqueued as ([\w.-]{1,64})/i.exec(response)?.[1];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
