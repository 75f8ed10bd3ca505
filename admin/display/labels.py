"""Texts for states, roles, requesters, calls and outcomes of runs."""

import json

from flask_babel import get_translations, lazy_gettext, lazy_pgettext
from flask_babel import gettext as _
from markupsafe import Markup

from admin.display.numbers import format_capped
from engine.models import AttemptState, Run, State
from engine.search.pagination import COUNT_LIMIT

#: Labels of the states of runs, attempts, consumers, queues, errors and accounts.
STATE_LABELS = {
    "waiting": lazy_gettext("waiting"),
    "scheduled": lazy_gettext("scheduled"),
    "running": lazy_gettext("running"),
    "retrying": lazy_gettext("retrying"),
    "succeeded": lazy_gettext("succeeded"),
    "failed": lazy_gettext("failed"),
    "cancelled": lazy_gettext("cancelled"),
    "expired": lazy_gettext("expired"),
    "dead": lazy_gettext("dead"),
    AttemptState.DIED: lazy_pgettext("attempt", "died"),
    AttemptState.RETURNED: lazy_pgettext("attempt", "returned"),
    AttemptState.PUT_OFF: lazy_pgettext("attempt", "put off"),
    "live": lazy_gettext("live"),
    "late": lazy_gettext("late"),
    "lost": lazy_gettext("lost"),
    "stopped": lazy_gettext("stopped"),
    "paused": lazy_gettext("paused"),
    "quiet": lazy_gettext("quiet"),
    "open": lazy_gettext("open"),
    "regressed": lazy_gettext("regressed"),
    "snoozed": lazy_gettext("snoozed"),
    "resolved": lazy_gettext("resolved"),
    "disabled": lazy_gettext("disabled"),
    "altered": lazy_gettext("altered"),
    "revoked": lazy_gettext("revoked"),
}
ROLE_LABELS = {"viewer": lazy_gettext("viewer"), "operator": lazy_gettext("operator"), "admin": lazy_gettext("admin")}


def state_word(state: str) -> str:
    return str(STATE_LABELS.get(state, state))


def role_word(role: str) -> str:
    return str(ROLE_LABELS.get(role, role))


# --- counts ------------------------------------------------------------------------------------------------


def ngettext_capped(singular: str, many: str, num: int, **values: object) -> str:
    """Return the plural form for `num`, with `%(num)s` and other placeholders filled in. Large counts are capped."""
    return str(plural_template(singular, many, num)) % {"num": format_capped(num), **values}


def ngettext_html(singular: str, many: str, num: int, **values: object) -> Markup:
    """Return the plural form as markup. Markup in the text is kept, values are escaped."""
    return Markup(plural_template(singular, many, num)) % {"num": format_capped(num), **values}


def plural_template(singular: str, many: str, num: int) -> str:
    """Return the plural form without filling it in. Counts above the limit use the form of the limit."""
    return get_translations().ungettext(singular, many, min(num, COUNT_LIMIT))


# --- runs ----------------------------------------------------------------------------------------------------


def short_id(identifier: object) -> str:
    """Return the first eight characters of an id."""
    text = str(identifier)
    return text if len(text) <= 8 else text[:8] + "…"


def requester_text(run: Run) -> str:
    kind, name = run.asked_by_kind, run.asked_by
    match kind:
        case "schedule":
            return _("schedule")
        case "operator":
            return name or _("a user")
        case "token":
            return _("token %(name)s", name=name)
        case "cli":
            return _("command line (%(name)s)", name=name) if name else _("command line")
        case "run":
            return _("run %(id)s", id=short_id(name))
        case "code":
            return _("code")
    return _("unknown")


def call_text(run: Run) -> str:
    """Return the call as `name(1, key="value")`, with JSON values."""
    values = [pretty_json(value) for value in run.args or []]
    values += [f"{key}={pretty_json(value)}" for key, value in (run.kwargs or {}).items()]
    return f"{run.task}({', '.join(values)})"


def pretty_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


def outcome_text(run: Run) -> str:
    """Return the outcome of a run in a few words; empty if the state is enough."""
    match run.state:
        case State.FAILED | State.DEAD | State.RETRYING | State.SCHEDULED:
            return (run.error or "").strip().splitlines()[-1] if (run.error or "").strip() else ""
        case State.SUCCEEDED:
            return result_text(run)
    return ""


def result_text(run: Run) -> str:
    """Return the result in words for the built-in tasks, else as JSON."""
    match run.task, run.result:
        case "close_abandoned_sessions", {"closed_count": 0}:
            return _("nothing to close")
        case "close_abandoned_sessions", {"closed_count": int(count)}:
            return ngettext_capped("closed %(num)s session", "closed %(num)s sessions", count)
        case "get_cleanup_statistics", {"total_closed": int(count), "period_hours": hours}:
            return ngettext_capped(
                "%(num)s session closed in %(hours)s h", "%(num)s sessions closed in %(hours)s h", count, hours=hours
            )
        case "cleanup_old_task_results", {"results": int(results), "runs": int(runs), "workers": int(workers)}:
            return pruned_text(results, runs, workers)
    return "" if run.result is None else pretty_json(run.result)


def pruned_text(results: int, runs: int, workers: int) -> str:
    parts = [
        results and ngettext_capped("%(num)s result", "%(num)s results", results),
        runs and ngettext_capped("%(num)s run", "%(num)s runs", runs),
        workers and ngettext_capped("%(num)s worker", "%(num)s workers", workers),
    ]
    if not any(parts):
        return _("nothing to remove")
    return _("removed %(things)s", things=", ".join(part for part in parts if part))
