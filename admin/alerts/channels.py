"""Alert channels: webhook and mail. A failed delivery raises DeliveryFailed with a line that contains no secret."""

import hashlib
import hmac
import http.client
import json
import logging
import re
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from flask_babel import force_locale, lazy_gettext

from admin.alerts.text import Message, build_message, console_link
from config import settings
from engine.monitor.alerts import TEST, Notice

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10
SIGNATURE = "Dewey-Signature"


class DeliveryFailed(Exception):
    """The receiver is unavailable or refuses. The message contains no URL path and no password."""

    def __init__(self, sentence: str, **values: object) -> None:
        super().__init__(sentence % values if values else sentence)


#: Error messages that the console translates. OS error texts stay as they are.
REASONS = (
    lazy_gettext("the receiver returned %(code)s"),
    lazy_gettext("the mail server returned %(code)s"),
    lazy_gettext("the mail server refuses the recipients (%(codes)s)"),
    lazy_gettext("the mail server refuses %(count)s of %(all)s recipients"),
    lazy_gettext("the mail server does not support encryption, so no password was sent"),
    lazy_gettext("its certificate is not trusted (%(why)s)"),
    lazy_gettext("no response within %(seconds)s s"),
    lazy_gettext("Connection refused"),
)


def delivery_error_text(error: str) -> str:
    """Return a stored error in the reader's language."""
    with force_locale("en"):
        translations = {str(sentence): sentence for sentence in REASONS}
    for sentence, translation in translations.items():
        pattern = re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>.+)", re.escape(sentence))
        if match := re.fullmatch(pattern, error):
            return str(translation) % match.groupdict()
    return error


def configured_channels() -> list[str]:
    """Return the names of configured channels."""
    set_up = {"webhook": settings.alert_webhook_url, "email": settings.alert_email_to}
    return [name for name, value in set_up.items() if value]


def receiver_label(channel: str) -> str:
    """Return the receiver without secrets: mail addresses or the host of the webhook."""
    if channel == "email":
        return ", ".join(settings.alert_email_to)
    return urlsplit(settings.alert_webhook_url).hostname or ""


def send_notice(notice: Notice) -> None:
    """Send a notice in the language of LANGUAGE. Raises DeliveryFailed for any error."""
    prefix = f"[{settings.environment}] " if settings.environment else ""
    try:
        with force_locale(settings.language):
            content = build_message(notice)
        SENDERS[notice.channel](notice, content, prefix)
    except DeliveryFailed:
        raise
    except Exception as error:
        if not isinstance(error, OSError | http.client.HTTPException | smtplib.SMTPException | ValueError):
            logger.exception("Cannot build the text of notice %s", notice.id)
        raise DeliveryFailed(failure_reason(error)) from error


def failure_reason(error: Exception) -> str:
    """Return a reason without secrets. Messages of libraries may repeat their input, so they are not used."""
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the mail server returned {error.smtp_code}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({str(code) for code, _ in error.recipients.values()})
        return f"the mail server refuses the recipients ({', '.join(codes)})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return f"no response within {TIMEOUT_SECONDS} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


# --- webhook -------------------------------------------------------------------------------------------------


def build_webhook_body(notice: Notice, content: Message, prefix: str) -> dict[str, Any]:
    """Return the JSON body. Chat programs show `text`, scripts read the other keys."""
    facts = {key: notice.facts.get(key) for key in ("rule", "subject", "value", "began_at", "ended_at")}
    return {
        "text": f"{prefix}{content.text} {console_link(notice)}",
        "id": notice.id,
        "event": notice.event,
        "environment": settings.environment,
        "url": console_link(notice),
        **({} if notice.event == TEST else facts),
    }


def sign_body(body: bytes, at: int) -> str:
    """Return `t=<Unix seconds>,v1=<hex>`: HMAC-SHA256 of `<t>.<body>` with ALERT_WEBHOOK_SECRET."""
    secret = settings.alert_webhook_secret.encode()
    return f"t={at},v1={hmac.new(secret, f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"


def send_webhook(notice: Notice, content: Message, prefix: str) -> None:
    body = json.dumps(build_webhook_body(notice, content, prefix), ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "Dewey"}
    if settings.alert_webhook_secret:
        headers[SIGNATURE] = sign_body(body, int(time.time()))
    request = urllib.request.Request(settings.alert_webhook_url, body, headers, method="POST")
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        error.close()
        raise DeliveryFailed("the receiver returned %(code)s", code=error.code) from None
    except urllib.error.URLError as error:
        raise error.reason if isinstance(error.reason, Exception) else OSError(error.reason) from None


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: only the configured address receives the alert."""

    def redirect_request(self, *redirect: Any) -> None:
        return None


# --- mail ----------------------------------------------------------------------------------------------------


def send_mail(notice: Notice, content: Message, prefix: str) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"] = settings.alert_email_from, ", ".join(settings.alert_email_to)
    mail["Subject"] = " ".join(f"{prefix}Dewey: {content.title}".split())
    mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(f"dewey-{notice.id}", "dewey.invalid")
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(f"{content.text}\n\n{console_link(notice)}\n")
    with smtp_connection() as server:
        refused = server.send_message(mail)
    if refused:
        recipients = len(settings.alert_email_to)
        raise DeliveryFailed(
            "the mail server refuses %(count)s of %(all)s recipients", count=len(refused), all=recipients
        )


def smtp_connection() -> smtplib.SMTP:
    """Return an open connection, encrypted if the server supports it. A password is never sent in plain text."""
    url = urlsplit(settings.smtp_url)
    user, password = unquote(url.username or ""), unquote(url.password or "")
    server = open_smtp(url)
    try:
        secure(server, url)
        if user:
            server.login(user, password)
    except BaseException:
        server.close()
        raise
    return server


def open_smtp(url: SplitResult) -> smtplib.SMTP:
    host = url.hostname or ""
    if url.scheme == "smtps":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(host, url.port or 465, timeout=TIMEOUT_SECONDS, context=context)
    return smtplib.SMTP(host, url.port or 25, timeout=TIMEOUT_SECONDS)


def secure(server: smtplib.SMTP, url: SplitResult) -> None:
    """Encrypt the connection if possible. Raises DeliveryFailed if a password would be sent in plain text."""
    server.ehlo_or_helo_if_needed()
    if url.scheme == "smtps":
        return
    if server.has_extn("starttls"):
        server.starttls(context=ssl.create_default_context())
    elif url.username and not is_loopback(url.hostname or ""):
        raise DeliveryFailed("the mail server does not support encryption, so no password was sent")


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


SENDERS: dict[str, Callable[[Notice, Message, str], None]] = {"webhook": send_webhook, "email": send_mail}
