"""What an alert says: the same sentence on the page, in the terminal, in a webhook and in a mail."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from flask_babel import gettext as _
from flask_babel import lazy_gettext

from admin.display.labels import ngettext_capped
from admin.display.numbers import format_duration, format_number, format_percent, full_timestamp, localise_number
from config import settings
from engine.monitor.alert_rules import Rule
from engine.monitor.alerts import RESOLVED, TEST, WORSE, Alert, Notice, alert_facts

Facts = Mapping[str, Any]


class Message(NamedTuple):
    """`title` in a few words, `text` whole."""

    title: str
    text: str


class AlertText(NamedTuple):
    """How a rule reads. `page`: the path where it is repaired. `alert_text`: what is wrong, from the facts of an alert.

    `threshold_text`: when the rule is broken. `measured_text`: the worst value of the last check, may be empty.
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
        return _("Nobody serves %(queue)s.", queue=facts["subject"])
    return ngettext_capped(
        "Nobody serves %(queue)s; %(num)s run waits.",
        "Nobody serves %(queue)s; %(num)s runs wait.",
        facts["waiting"],
        queue=facts["subject"],
    )


def late(facts: Facts) -> str:
    return _(
        "The schedule of %(queue)s is late: nothing starts by itself until a consumer looks at the clock again.",
        queue=facts["subject"],
    )


def missed(facts: Facts) -> str:
    return ngettext_capped(
        "%(task)s was not started when it was due, at %(time)s.",
        "%(task)s was not started %(num)s times when it was due, last at %(time)s.",
        int(facts["value"]),
        task=facts["subject"],
        time=full_timestamp(datetime.fromisoformat(facts["last"])),
    )


def oldest(facts: Facts) -> str:
    return _(
        "The oldest run in %(queue)s has waited for %(time)s.",
        queue=facts["subject"],
        time=format_minutes(facts["value"]),
    )


def failing(facts: Facts) -> str:
    return _(
        "%(task)s fails too often: %(share)s of its runs in the last hour, %(failed)s of %(finished)s.",
        task=facts["subject"],
        share=format_percent(facts["failed"], facts["finished"]),
        failed=format_number(facts["failed"]),
        finished=format_number(facts["finished"]),
    )


def dead(facts: Facts) -> str:
    return ngettext_capped(
        "%(num)s run of %(queue)s took down its workers or cannot be read, and waits for a decision.",
        "%(num)s runs of %(queue)s took down their workers or cannot be read, and wait for a decision.",
        int(facts["value"]),
        queue=facts["subject"],
    )


def dropped(facts: Facts) -> str:
    return ngettext_capped(
        "%(num)s event could not be kept while the database was away.",
        "%(num)s events could not be kept while the database was away.",
        int(facts["value"]),
    )


def abandoned(facts: Facts) -> str:
    return ngettext_capped(
        "%(num)s abandoned session is still open.",
        "%(num)s abandoned sessions are still open.",
        int(facts["value"]),
    )


# --- when a rule is broken -----------------------------------------------------------------------------------


def oldest_threshold() -> str:
    return _("a run waits for more than %(time)s", time=format_minutes(settings.alert_oldest_minutes))


def failing_threshold() -> str:
    share = localise_number(f"{settings.alert_failure_percent:g} %")
    return _("%(share)s of a task's runs fail within an hour, and at least 5", share=share)


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
    """The subject and the value in these words; nothing for no value."""
    return lambda facts: f"{facts['subject']} {words(facts['value'])}" if facts["value"] else ""


count_of_subject = of_subject(lambda value: format_number(int(value)))

TEXTS = {
    "database": AlertText(
        lazy_gettext("Database away"),
        "",
        lambda facts: _("The database cannot be reached."),
        lambda: _("it does not answer for a minute"),
    ),
    "broker": AlertText(
        lazy_gettext("Broker away"),
        "queues",
        lambda facts: _("The broker cannot be reached."),
        lambda: _("it does not answer for a minute"),
    ),
    "unserved": AlertText(
        lazy_gettext("No worker"), "workers", unserved, lambda: _("a queue has no live worker for a minute")
    ),
    "late": AlertText(
        lazy_gettext("Schedule late"), "schedule", late, lambda: _("nobody looks at the clock for a minute")
    ),
    "missed": AlertText(
        lazy_gettext("Tick missed"),
        "schedule",
        missed,
        lambda: _("a tick is missed and not made up for"),
        count_of_subject,
    ),
    "oldest": AlertText(lazy_gettext("Waits too long"), "queues", oldest, oldest_threshold, of_subject(format_minutes)),
    "failing": AlertText(
        lazy_gettext("Fails too often"),
        "runs?q=state:failed,dead+ended:1h",
        failing,
        failing_threshold,
        of_subject(lambda value: localise_number(f"{value:.1f} %")),
    ),
    "dead": AlertText(
        lazy_gettext("Dead run"), "dead", dead, lambda: _("a dead run waits for a decision"), count_of_subject
    ),
    "dropped": AlertText(
        lazy_gettext("History incomplete"), "", dropped, lambda: _("an event does not become history"), total
    ),
    "abandoned": AlertText(
        lazy_gettext("Sessions pile up"), "sessions?state=abandoned", abandoned, abandoned_threshold, total
    ),
}


def alert_text(facts: Facts) -> str:
    """`facts`: rule, subject, value, and what the rule adds."""
    if text := TEXTS.get(facts["rule"]):
        return text.sentence(facts)
    return _("%(rule)s is broken.", rule=facts["rule"])


def alert_sentence(alert: Alert) -> str:
    return alert_text(alert_facts(alert))


def threshold_text(rule: Rule) -> str:
    """When the rule is broken."""
    return TEXTS[rule.name].threshold()


def measured_text(rule: str, facts: Facts | None) -> str:
    """The worst that the watch saw last, in a few words; empty where there is nothing to say."""
    return TEXTS[rule].measured(facts) if facts else ""


def rule_name(rule: str) -> str:
    return str(TEXTS[rule].name) if rule in TEXTS else rule


def build_message(notice: Notice) -> Message:
    """In the language of the moment."""
    if notice.event == TEST:
        return Message(_("a test"), _("This is a test: alerts of Dewey arrive here."))
    facts = notice.facts
    name, text = rule_name(facts["rule"]), alert_text(facts)
    if notice.event == RESOLVED:
        lasted = datetime.fromisoformat(facts["ended_at"]) - datetime.fromisoformat(facts["began_at"])
        time = format_duration(lasted.total_seconds() * 1000)
        return Message(_("resolved: %(name)s", name=name), _("Resolved after %(time)s: %(said)s", time=time, said=text))
    if notice.event == WORSE:
        return Message(_("more: %(name)s", name=name), _("There is more of it: %(said)s", said=text))
    return Message(name, text)


def console_link(notice: Notice) -> str:
    """To the page where it is mended."""
    text = None if notice.event == TEST else TEXTS.get(notice.facts["rule"])
    page = text.page if text else "alerts"
    return f"{settings.console_url or settings.local_url}/{page}"
