"""The people who may sign in: who they are, and for an admin what can be done about them."""

from typing import NoReturn

from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from admin.auth.access import needs
from admin.auth.identity import ROLES, current_actor
from admin.display.labels import counted
from admin.operations.operators import with_sign_ins
from admin.operations.registry import perform
from admin.pages import confirm, live_refresh
from admin.pages.blueprint import ROWS, blueprint
from admin.pages.confirm import Question
from admin.problems import BadInput, Refused
from models import Operator


@blueprint.get("/operators")
@needs("viewer")
def operators() -> ResponseReturnValue:
    return list_page()


def list_page(wrong: BadInput | Refused | None = None) -> ResponseReturnValue:
    after = request.args.get("after", "")
    query = with_sign_ins().limit(ROWS + 1)
    rows = list(query.where(Operator.email > after) if after else query)
    answer = live_refresh.page(
        "people/operators.html",
        rows=rows[:ROWS],
        more=rows[ROWS - 1].email if len(rows) > ROWS else None,
        first=not after,
        roles=ROLES,
        typed=request.form,
        wrong=wrong,
    )
    answer.status_code = (wrong.code or 422) if wrong else answer.status_code
    return answer


@blueprint.post("/operators")
@needs("admin")
def operator_create() -> ResponseReturnValue:
    email, role = request.form.get("email", ""), request.form.get("role", "")
    typed = request.form.get("password") or None
    try:
        password = perform(current_actor(), "operators.create", email=email, role=role, password=typed)
    except (BadInput, Refused) as error:
        return list_page(error)
    if typed:
        flash(_("%(email)s may sign in.", email=email.strip().lower()))
        return redirect(url_for("pages.operators"), 303)
    return once(_("%(email)s may sign in", email=email.strip().lower()), password, "pages.operators")


def once(title: str, secret: str, page: str, note: str = "") -> str:
    """What is shown this once. It comes as the answer to the form, so it is stored nowhere."""
    return render_template("people/once.html", title=title, secret=secret, back=page, note=note)


# --- one of them ---------------------------------------------------------------------------------------------


@blueprint.get("/operators/<int:operator_id>")
@needs("viewer")
def operator(operator_id: int) -> ResponseReturnValue:
    return page(operator_id)


def page(operator_id: int, wrong: BadInput | None = None) -> ResponseReturnValue:
    person = with_sign_ins().where(Operator.id == operator_id).first() or operator_not_found()
    answer = live_refresh.page("people/operator.html", person=person, roles=ROLES, wrong=wrong)
    answer.status_code = 422 if wrong else answer.status_code
    return answer


def get_operator_or_404(operator_id: int) -> Operator:
    return Operator.get_or_none(Operator.id == operator_id) or operator_not_found()


def operator_not_found() -> NoReturn:
    abort(404, _("There is no such operator."))


@blueprint.post("/operators/<int:operator_id>/role")
@needs("admin")
def operator_role(operator_id: int) -> ResponseReturnValue:
    person, role = get_operator_or_404(operator_id), request.form.get("role", "")
    return perform_and_return(person, "operators.role", _("The role is changed."), role=role)


@blueprint.post("/operators/<int:operator_id>/enable")
@needs("admin")
def operator_enable(operator_id: int) -> ResponseReturnValue:
    return perform_and_return(get_operator_or_404(operator_id), "operators.enable", _("They may sign in again."))


@blueprint.get("/operators/<int:operator_id>/disable")
@needs("admin")
def operator_disable(operator_id: int) -> ResponseReturnValue:
    person = with_sign_ins().where(Operator.id == operator_id).first() or operator_not_found()
    browsers = counted("with %(num)s browser", "with %(num)s browsers", person.sessions)
    return confirm.ask(
        Question(
            title=_("Disable %(email)s?", email=person.email),
            statement=_("They can sign in no more, until an admin enables them again; their sessions end now."),
            facts=[(_("Signed in"), browsers if person.sessions else _("not now"))],
            consequences=[_("What they asked for goes on, and stays under their name."), _("Tokens go on.")],
            button=_("Disable"),
            back=url_for("pages.operator", operator_id=operator_id),
            back_button=_("Leave them be"),
            page="pages.operators",
        )
    )


@blueprint.post("/operators/<int:operator_id>/disable", endpoint="operator_disable_now")
@needs("admin")
def operator_disable_now(operator_id: int) -> ResponseReturnValue:
    return perform_and_return(
        get_operator_or_404(operator_id),
        "operators.disable",
        _("They can sign in no more, and their sessions have ended."),
    )


@blueprint.post("/operators/<int:operator_id>/password")
@needs("admin")
def operator_password(operator_id: int) -> ResponseReturnValue:
    person, typed = get_operator_or_404(operator_id), request.form.get("password") or None
    try:
        password = perform(current_actor(), "operators.password", email=person.email, password=typed)
    except BadInput as error:
        return page(operator_id, error)
    if typed:
        flash(_("The password is changed, and their sessions have ended."))
        return redirect(url_for("pages.operator", operator_id=operator_id), 303)
    return once(_("A new password for %(email)s", email=person.email), password, "pages.operators")


def perform_and_return(person: Operator, action: str, message: str, **arguments: object) -> ResponseReturnValue:
    try:
        perform(current_actor(), action, email=person.email, **arguments)
        flash(message)
    except Refused as error:
        flash(str(error.description), "error")
    return redirect(url_for("pages.operator", operator_id=person.id), 303)
