"""Users: the list, one user, and the actions of an admin."""

from typing import NoReturn

from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from admin.auth.access import requires_role
from admin.auth.identity import ROLES, current_actor
from admin.display.labels import ngettext_capped
from admin.operations.operators import operators_with_sign_ins
from admin.operations.registry import execute
from admin.pages import confirm, live_refresh
from admin.pages.blueprint import ROWS_PER_PAGE, blueprint
from admin.pages.confirm import Confirmation
from admin.problems import ConflictError, InvalidInput
from models import Operator


@blueprint.get("/operators")
@requires_role("viewer")
def operators() -> ResponseReturnValue:
    return list_page()


def list_page(wrong: InvalidInput | ConflictError | None = None) -> ResponseReturnValue:
    after = request.args.get("after", "")
    query = operators_with_sign_ins().limit(ROWS_PER_PAGE + 1)
    rows = list(query.where(Operator.email > after) if after else query)
    answer = live_refresh.render_page(
        "people/operators.html",
        rows=rows[:ROWS_PER_PAGE],
        next_key=rows[ROWS_PER_PAGE - 1].email if len(rows) > ROWS_PER_PAGE else None,
        first=not after,
        roles=ROLES,
        typed=request.form,
        wrong=wrong,
    )
    answer.status_code = (wrong.code or 422) if wrong else answer.status_code
    return answer


@blueprint.post("/operators")
@requires_role("admin")
def operator_create() -> ResponseReturnValue:
    email, role = request.form.get("email", ""), request.form.get("role", "")
    typed = request.form.get("password") or None
    try:
        password = execute(current_actor(), "operators.create", email=email, role=role, password=typed)
    except (InvalidInput, ConflictError) as error:
        return list_page(error)
    if typed:
        flash(_("User %(email)s created.", email=email.strip().lower()))
        return redirect(url_for("pages.operators"), 303)
    return secret_page(_("User %(email)s created", email=email.strip().lower()), password, "pages.operators")


def secret_page(title: str, secret: str, page: str, note: str = "") -> str:
    """Return the page that shows a new secret once. It is the response to the form, so the secret is not stored."""
    return render_template("people/new_secret.html", title=title, secret=secret, back=page, note=note)


# --- one of them ---------------------------------------------------------------------------------------------


@blueprint.get("/operators/<int:operator_id>")
@requires_role("viewer")
def operator(operator_id: int) -> ResponseReturnValue:
    return operator_page(operator_id)


def operator_page(operator_id: int, wrong: InvalidInput | None = None) -> ResponseReturnValue:
    person = operators_with_sign_ins().where(Operator.id == operator_id).first() or operator_not_found()
    answer = live_refresh.render_page("people/operator.html", person=person, roles=ROLES, wrong=wrong)
    answer.status_code = 422 if wrong else answer.status_code
    return answer


def get_operator_or_404(operator_id: int) -> Operator:
    return Operator.get_or_none(Operator.id == operator_id) or operator_not_found()


def operator_not_found() -> NoReturn:
    abort(404, _("There is no user with this ID."))


@blueprint.post("/operators/<int:operator_id>/role")
@requires_role("admin")
def operator_role(operator_id: int) -> ResponseReturnValue:
    person, role = get_operator_or_404(operator_id), request.form.get("role", "")
    return perform_and_return(person, "operators.role", _("Role changed."), role=role)


@blueprint.post("/operators/<int:operator_id>/enable")
@requires_role("admin")
def operator_enable(operator_id: int) -> ResponseReturnValue:
    return perform_and_return(get_operator_or_404(operator_id), "operators.enable", _("User enabled."))


@blueprint.get("/operators/<int:operator_id>/disable")
@requires_role("admin")
def operator_disable(operator_id: int) -> ResponseReturnValue:
    person = operators_with_sign_ins().where(Operator.id == operator_id).first() or operator_not_found()
    browsers = ngettext_capped("in %(num)s browser", "in %(num)s browsers", person.sessions)
    return confirm.render_confirmation(
        Confirmation(
            title=_("Disable %(email)s?", email=person.email),
            statement=_("The user cannot sign in until an admin enables the account. All sessions end now."),
            facts=[(_("Signed in"), browsers if person.sessions else _("no"))],
            consequences=[
                _("Runs that the user requested continue under the user's name."),
                _("Tokens stay valid."),
            ],
            button=_("Disable"),
            back=url_for("pages.operator", operator_id=operator_id),
            back_button=_("Keep access"),
            page="pages.operators",
        )
    )


@blueprint.post("/operators/<int:operator_id>/disable", endpoint="operator_disable_now")
@requires_role("admin")
def operator_disable_now(operator_id: int) -> ResponseReturnValue:
    return perform_and_return(
        get_operator_or_404(operator_id),
        "operators.disable",
        _("User disabled. All sessions are signed out."),
    )


@blueprint.post("/operators/<int:operator_id>/password")
@requires_role("admin")
def operator_password(operator_id: int) -> ResponseReturnValue:
    person, typed = get_operator_or_404(operator_id), request.form.get("password") or None
    try:
        password = execute(current_actor(), "operators.password", email=person.email, password=typed)
    except InvalidInput as error:
        return operator_page(operator_id, error)
    if typed:
        flash(_("Password changed. All sessions of this user are signed out."))
        return redirect(url_for("pages.operator", operator_id=operator_id), 303)
    return secret_page(_("A new password for %(email)s", email=person.email), password, "pages.operators")


def perform_and_return(person: Operator, action: str, message: str, **arguments: object) -> ResponseReturnValue:
    try:
        execute(current_actor(), action, email=person.email, **arguments)
        flash(message)
    except ConflictError as error:
        flash(str(error.description), "error")
    return redirect(url_for("pages.operator", operator_id=person.id), 303)
