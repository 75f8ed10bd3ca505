"""What an alert says: the same sentence on the page, in the terminal, in a webhook and in a mail."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from flask_babel import gettext as _
from flask_babel import lazy_gettext

from admin.display.labels import counted
from admin.display.numbers import duration, exact, number, percent, signs
from config import settings
from engine.monitor.alert_rules import Rule
from engine.monitor.alerts import RESOLVED, TEST, WORSE, Alert, Notice, facts_of

NAMES = {
    "database": lazy_gettext("Database away"),
    "broker": lazy_gettext("Broker away"),
    "unserved": lazy_gettext("No worker"),
    "late": lazy_gettext("Schedule late"),
    "missed": lazy_gettext("Tick missed"),
    "oldest": lazy_gettext("Waits too long"),
    "failing": lazy_gettext("Fails too often"),
    "dead": lazy_gettext("Dead run"),
    "dropped": lazy_gettext("History incomplete"),
    "abandoned": lazy_gettext("Sessions pile up"),
}

#: Where it is mended.
PAGES = {
    "database": "",
    "broker": "queues",
    "unserved": "workers",
    "late": "schedule",
    "missed": "schedule",
    "oldest": "queues",
    "failing": "runs?q=state:failed,dead+ended:1h",
    "dead": "dead",
    "dropped": "",
    "abandoned": "sessions?state=abandoned",
}

Facts = Mapping[str, Any]


class Message(NamedTuple):
    """`title` in a few words, `text` whole."""

    title: str
    text: str


def sentence(facts: Facts) -> str:
    """`facts`: rule, subject, value, and what the rule adds."""
    subject, value = facts["subject"], facts["value"]
    match facts["rule"]:
        case "database":
            return _("The database cannot be reached.")
        case "broker":
            return _("The broker cannot be reached.")
        case "unserved":
            if not facts["waiting"]:
                return _("Nobody serves %(queue)s.", queue=subject)
            return counted(
                "Nobody serves %(queue)s; %(num)s run waits.",
                "Nobody serves %(queue)s; %(num)s runs wait.",
                facts["waiting"],
                queue=subject,
            )
        case "late":
            return _(
                "The schedule of %(queue)s is late: nothing starts by itself until a consumer looks at the clock "
                "again.",
                queue=subject,
            )
        case "missed":
            return counted(
                "%(task)s was not started when it was due, at %(time)s.",
                "%(task)s was not started %(num)s times when it was due, last at %(time)s.",
                int(value),
                task=subject,
                time=exact(datetime.fromisoformat(facts["last"])),
            )
        case "oldest":
            return _("The oldest run in %(queue)s has waited for %(time)s.", queue=subject, time=length(value))
        case "failing":
            share, failed = percent(facts["failed"], facts["finished"]), number(facts["failed"])
            return _(
                "%(task)s fails too often: %(share)s of its runs in the last hour, %(failed)s of %(finished)s.",
                task=subject, share=share, failed=failed, finished=number(facts["finished"]),
            )  # fmt: skip
        case "dead":
            return counted(
                "%(num)s run of %(queue)s took down its workers or cannot be read, and waits for a decision.",
                "%(num)s runs of %(queue)s took down their workers or cannot be read, and wait for a decision.",
                int(value),
                queue=subject,
            )
        case "dropped":
            return counted(
                "%(num)s event could not be kept while the database was away.",
                "%(num)s events could not be kept while the database was away.",
                int(value),
            )
        case "abandoned":
            return counted(
                "%(num)s abandoned session is still open.", "%(num)s abandoned sessions are still open.", int(value)
            )
    return _("%(rule)s is broken.", rule=facts["rule"])


def length(minutes: float) -> str:
    return duration(minutes * 60_000)


def of_alert(alert: Alert) -> str:
    return sentence(facts_of(alert))


def threshold(rule: Rule) -> str:
    """When the rule is broken."""
    match rule.name:
        case "oldest":
            return _("a run waits for more than %(time)s", time=length(settings.alert_oldest_minutes))
        case "failing":
            share = signs(f"{settings.alert_failure_percent:g} %")
            return _("%(share)s of a task's runs fail within an hour, and at least 5", share=share)
        case "abandoned":
            return counted(
                "more than %(num)s abandoned session is open",
                "more than %(num)s abandoned sessions are open",
                settings.alert_abandoned,
            )
        case "broker" | "database":
            return _("it does not answer for a minute")
        case "unserved":
            return _("a queue has no live worker for a minute")
        case "late":
            return _("nobody looks at the clock for a minute")
        case "missed":
            return _("a tick is missed and not made up for")
        case "dead":
            return _("a dead run waits for a decision")
    return _("an event does not become history")


def measured(rule: str, seen: Facts | None) -> str:
    """The worst that the watch saw last, in a few words; empty where there is nothing to say."""
    if not seen:
        return ""
    value, subject = seen["value"], seen["subject"]
    match rule:
        case "oldest":
            return f"{subject} {length(value)}" if value else ""
        case "failing":
            return f"{subject} {signs(f'{value:.1f} %')}" if value else ""
        case "abandoned" | "dropped":
            return number(int(value))
        case "dead" | "missed":
            return f"{subject} {number(int(value))}" if value else ""
    return ""


def message(notice: Notice) -> Message:
    """In the language of the moment."""
    if notice.event == TEST:
        return Message(_("a test"), _("This is a test: alerts of Dewey arrive here."))
    facts = notice.facts
    name, said = str(NAMES.get(facts["rule"], facts["rule"])), sentence(facts)
    if notice.event == RESOLVED:
        lasted = datetime.fromisoformat(facts["ended_at"]) - datetime.fromisoformat(facts["began_at"])
        time = duration(lasted.total_seconds() * 1000)
        return Message(_("resolved: %(name)s", name=name), _("Resolved after %(time)s: %(said)s", time=time, said=said))
    if notice.event == WORSE:
        return Message(_("more: %(name)s", name=name), _("There is more of it: %(said)s", said=said))
    return Message(name, said)


def link(notice: Notice) -> str:
    """To the page where it is mended."""
    page = "alerts" if notice.event == TEST else PAGES.get(notice.facts["rule"], "alerts")
    return f"{settings.console_url or settings.local_url}/{page}"
