"""What can be done about alerts."""

from flask_babel import gettext as _

from admin.alerts import delivery
from admin.auth.identity import Who
from admin.operations.registry import Outcome, action
from admin.problems import Refused


@action("alerts.test", "operator", in_transaction=False)
def test_alerts(actor: Who) -> Outcome[list[delivery.TestResult]]:
    """Send a test by webhook and mail; gives back what came of each."""
    tried = delivery.try_channels()
    if not tried:
        raise Refused(_("Nobody is told of alerts: neither ALERT_WEBHOOK_URL nor ALERT_EMAIL_TO is set."))
    return Outcome(tried, after={result.channel: result.error or "sent" for result in tried})
