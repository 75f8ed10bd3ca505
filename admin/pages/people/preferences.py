"""Language, colours and time zone, each stored in a cookie."""

import pytz
from flask import Blueprint, redirect, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from admin.auth.access import public
from admin.i18n import THEMES, safe_path
from admin.problems import InvalidInput
from config import LANGUAGES

YEAR = 365 * 86_400
ALLOWED = {"language": LANGUAGES, "theme": THEMES}

blueprint = Blueprint("preferences", __name__)


@blueprint.post("/preferences")
@public
def prefer() -> ResponseReturnValue:
    response = redirect(safe_path(request.form.get("back", "/")), 303)
    for name, allowed in ALLOWED.items():
        if (value := request.form.get(name)) is None:
            continue
        if value not in allowed:
            raise InvalidInput(name, _("must be one of %(allowed)s", allowed=", ".join(allowed)))
        set_preference(response, name, value)
    if (value := request.form.get("timezone")) is not None:
        if value.strip() and value.strip() not in pytz.all_timezones_set:
            raise InvalidInput("timezone", _("must be a time zone such as Europe/Berlin"))
        set_preference(response, "timezone", value.strip())
    return response


def set_preference(response: BaseResponse, name: str, value: str) -> None:
    """Set the cookie, or delete it when no value is given."""
    age = YEAR if value else 0
    response.set_cookie(name, value, max_age=age, secure=request.is_secure, httponly=True, samesite="Lax")
