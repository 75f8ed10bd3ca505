"""Texts of alerts for page, terminal, webhook and mail."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from flask_babel import gettext as _
from flask_babel import lazy_gettext

from admin.display.labels import ngettext_capped
from admin.display.numbers import format_duration, format_number, format_percent, format_share, full_timestamp
from config import settings
from engine.monitor.alert_rules import Rule
from engine.monitor.alerts import RESOLVED, TEST, WORSE, Alert, Notice, alert_facts

Facts = Mapping[str, Any]


class Message(NamedTuple):
    """`title`: a few words. `text`: whole sentences."""

    title: str
    text: str


class AlertText(NamedTuple):
    """The texts of a rule. `page`: the path of the page to fix it. `sentence`: the alert, from its facts.

    `threshold`: when the rule fires. `measured`: the worst value of the last check, may be empty.
    """

    name: str
    page: str
    sentence: Callable[[Facts], str]
    threshold: Callable[[], str]
    measured: Callable[[Facts], str] = lambda facts: ""


def format_minutes(minutes: float) -> str:
    return format_duration(minutes * 60_000)


# --- what is wrong -------------------------------------------------------------------------------------------


def unserved(facts: Facts) -> str:
    if not facts["waiting"]:
        return _("Queue %(queue)s has no live worker.", queue=facts["subject"])
    return ngettext_capped(
        "Queue %(queue)s has no live worker. %(num)s run is waiting.",
        "Queue %(queue)s has no live worker. %(num)s runs are waiting.",
        facts["waiting"],
        queue=facts["subject"],
    )


def late(facts: Facts) -> str:
    return _(
        "Queue %(queue)s has no live scheduler. Scheduled tasks do not start until a consumer runs.",
        queue=facts["subject"],
    )


def missed(facts: Facts) -> str:
    return ngettext_capped(
        "%(task)s missed its tick at %(time)s.",
        "%(task)s missed %(num)s ticks, the last at %(time)s.",
        int(facts["value"]),
        task=facts["subject"],
        time=full_timestamp(datetime.fromisoformat(facts["last"])),
    )


def oldest(facts: Facts) -> str:
    return _(
        "The oldest run in queue %(queue)s has waited for %(time)s.",
        queue=facts["subject"],
        time=format_minutes(facts["value"]),
    )


def failing(facts: Facts) -> str:
    return _(
        "%(task)s fails too often: %(failed)s of %(finished)s runs in the last hour (%(share)s).",
        task=facts["subject"],
        share=format_percent(facts["failed"], facts["finished"]),
        failed=format_number(facts["failed"]),
        finished=format_number(facts["finished"]),
    )


def dead(facts: Facts) -> str:
    return ngettext_capped(
        "Queue %(queue)s has %(num)s dead run. Re-queue or discard it.",
        "Queue %(queue)s has %(num)s dead runs. Re-queue or discard them.",
        int(facts["value"]),
        queue=facts["subject"],
    )


def dropped(facts: Facts) -> str:
    return ngettext_capped(
        "%(num)s history event was lost while the database was unavailable.",
        "%(num)s history events were lost while the database was unavailable.",
        int(facts["value"]),
    )


def forged(facts: Facts) -> str:
    return ngettext_capped(
        "%(num)s value in the broker was malformed or forged and is set aside. See `dewey history rejected`.",
        "%(num)s values in the broker were malformed or forged and are set aside. See `dewey history rejected`.",
        int(facts["value"]),
    )


def abandoned(facts: Facts) -> str:
    return ngettext_capped(
        "%(num)s abandoned session is still open.",
        "%(num)s abandoned sessions are still open.",
        int(facts["value"]),
    )


# --- when a rule fires ---------------------------------------------------------------------------------------


def oldest_threshold() -> str:
    return _("a run has waited for more than %(time)s", time=format_minutes(settings.alert_oldest_minutes))


def failing_threshold() -> str:
    share = format_share(settings.alert_failure_percent)
    return _("%(share)s of a task's runs, and at least 5, failed in the last hour", share=share)


def abandoned_threshold() -> str:
    return ngettext_capped(
        "more than %(num)s abandoned session is open",
        "more than %(num)s abandoned sessions are open",
        settings.alert_abandoned,
    )


# --- what was measured ---------------------------------------------------------------------------------------


def total(facts: Facts) -> str:
    return format_number(int(facts["value"]))


def of_subject(words: Callable[[float], str]) -> Callable[[Facts], str]:
    """Return a function that formats the subject and its value, or gives an empty text for no value."""
    return lambda facts: f"{facts['subject']} {words(facts['value'])}" if facts["value"] else ""


count_of_subject = of_subject(lambda value: format_number(int(value)))

TEXTS = {
    "database": AlertText(
        lazy_gettext("Database unavailable"),
        "",
        lambda facts: _("The database is unavailable."),
        lambda: _("no response for a minute"),
    ),
    "broker": AlertText(
        lazy_gettext("Broker unavailable"),
        "queues",
        lambda facts: _("The broker is unavailable."),
        lambda: _("no response for a minute"),
    ),
    "unserved": AlertText(
        lazy_gettext("No worker"), "workers", unserved, lambda: _("a queue has had no live worker for a minute")
    ),
    "late": AlertText(
        lazy_gettext("Schedule late"), "schedule", late, lambda: _("a queue has had no live scheduler for a minute")
    ),
    "missed": AlertText(
        lazy_gettext("Tick missed"),
        "schedule",
        missed,
        lambda: _("a tick was missed and not caught up"),
        count_of_subject,
    ),
    "oldest": AlertText(lazy_gettext("Waits too long"), "queues", oldest, oldest_threshold, of_subject(format_minutes)),
    "failing": AlertText(
        lazy_gettext("Fails too often"),
        "runs?q=state:failed,dead+ended:1h",
        failing,
        failing_threshold,
        of_subject(format_share),
    ),
    "dead": AlertText(lazy_gettext("Dead run"), "dead", dead, lambda: _("a queue has a dead run"), count_of_subject),
    "dropped": AlertText(
        lazy_gettext("History incomplete"), "", dropped, lambda: _("an event was not written to the history"), total
    ),
    "forged": AlertText(
        lazy_gettext("Broker values set aside"),
        "workers",
        forged,
        lambda: _("a value in the broker is malformed, or not signed by this program"),
        total,
    ),
    "abandoned": AlertText(
        lazy_gettext("Sessions pile up"), "sessions?state=abandoned", abandoned, abandoned_threshold, total
    ),
}


def alert_text(facts: Facts) -> str:
    """Return the sentence of an alert. `facts`: rule, subject, value, and keys of the rule."""
    if text := TEXTS.get(facts["rule"]):
        return text.sentence(facts)
    return _("Alert rule %(rule)s fires.", rule=facts["rule"])


def alert_sentence(alert: Alert) -> str:
    return alert_text(alert_facts(alert))


def threshold_text(rule: Rule) -> str:
    """Return when the rule fires."""
    return TEXTS[rule.name].threshold()


def measured_text(rule: str, facts: Facts | None) -> str:
    """Return the worst value of the last check as text, empty without one."""
    return TEXTS[rule].measured(facts) if facts else ""


def rule_name(rule: str) -> str:
    return str(TEXTS[rule].name) if rule in TEXTS else rule


def build_message(notice: Notice) -> Message:
    """Return title and text of a notice in the current language."""
    if notice.event == TEST:
        return Message(_("test"), _("Test: this channel receives the alerts of Dewey."))
    facts = notice.facts
    name, text = rule_name(facts["rule"]), alert_text(facts)
    if notice.event == RESOLVED:
        lasted = datetime.fromisoformat(facts["ended_at"]) - datetime.fromisoformat(facts["began_at"])
        time = format_duration(lasted.total_seconds() * 1000)
        return Message(
            _("resolved: %(name)s", name=name), _("Resolved after %(time)s: %(cause)s", time=time, cause=text)
        )
    if notice.event == WORSE:
        return Message(_("worse: %(name)s", name=name), _("Still firing, now worse: %(cause)s", cause=text))
    return Message(name, text)


def console_link(notice: Notice) -> str:
    """Return the address of the page to fix the cause."""
    text = None if notice.event == TEST else TEXTS.get(notice.facts["rule"])
    page = text.page if text else "alerts"
    return f"{settings.console_url or settings.local_url}/{page}"
