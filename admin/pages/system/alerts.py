"""Alerts: state of each rule, sent notices, and a test notice."""

from flask import flash, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext

from admin.alerts import channels, rule_status, text
from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.forms.list_filters import ListFilters
from admin.operations.registry import execute
from admin.pages import live_refresh
from admin.pages.blueprint import blueprint, paginate
from config import settings
from engine.models import now
from engine.monitor.alerts import DROPPED, FAILED, SENT, WAITING, Notice

#: Alerts shown per rule.
MAX_ALERTS_PER_RULE = 4

#: States of rules and notices: the label, and the state whose colour it has.
STATE_TEXT = {
    "firing": (lazy_gettext("firing"), "failed"),
    "ok": (lazy_gettext("OK"), "live"),
    "off": (lazy_gettext("off"), "stopped"),
    "unknown": (lazy_gettext("not watched"), "late"),
}
CHANGE_TEXT = {
    SENT: (lazy_gettext("sent"), "succeeded"),
    WAITING: (lazy_gettext("pending"), "waiting"),
    FAILED: (lazy_gettext("failed"), "failed"),
    DROPPED: (lazy_gettext("dropped"), "cancelled"),
}
CHANNELS = {"webhook": lazy_gettext("webhook"), "email": lazy_gettext("e-mail")}


@blueprint.get("/alerts")
@requires_role("viewer")
def alerts() -> ResponseReturnValue:
    as_of = now()
    page = paginate(Notice.select(), Notice.created_at, Notice.id)
    return live_refresh.render_page(
        "system/alerts.html",
        as_of=as_of,
        board=rule_status.load_alerts_status(as_of),
        most=MAX_ALERTS_PER_RULE,
        stands=STATE_TEXT,
        became=CHANGE_TEXT,
        channel_names=CHANNELS,
        receivers={channel: channels.receiver_label(channel) for channel in channels.configured_channels()},
        quiet=quiet_hours(),
        rows=page.rows,
        older=page.older,
        filters=ListFilters("pages.alerts", ["all"], "all"),
        sentence=text.alert_sentence,
        place=lambda rule: url_for("pages.overview") + text.TEXTS[rule].page,
        message=text.build_message,
        in_words=channels.delivery_error_text,
    )


def quiet_hours() -> str:
    quiet = settings.alert_quiet_hours
    return f"{quiet.begin:%H:%M}–{quiet.end:%H:%M} {quiet.zone}" if quiet else ""


@blueprint.post("/alerts/tests")
@requires_role("operator")
def alerts_test() -> ResponseReturnValue:
    for result in execute(current_actor(), "alerts.test"):
        name = str(CHANNELS[result.channel])
        if result.error:
            flash(_("%(channel)s: %(error)s", channel=name, error=channels.delivery_error_text(result.error)), "error")
        else:
            flash(_("%(channel)s: test notice sent.", channel=name))
    return redirect(url_for("pages.alerts"), 303)
