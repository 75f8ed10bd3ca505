"""Actions on alerts."""

from flask_babel import gettext as _

from admin.alerts import delivery
from admin.auth.identity import Actor
from admin.operations.registry import ActionResult, register_action
from admin.problems import ConflictError


@register_action("alerts.test", "operator", in_transaction=False)
def test_alerts(actor: Actor) -> ActionResult[list[delivery.ChannelResult]]:
    """Send a test through every configured channel. Returns the result of each."""
    tried = delivery.send_test()
    if not tried:
        raise ConflictError(_("No alert channel is configured. Set ALERT_WEBHOOK_URL or ALERT_EMAIL_TO."))
    return ActionResult(tried, after={result.channel: result.error or "sent" for result in tried})
