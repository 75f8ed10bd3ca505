"""Saved views: named filters of the list of runs, private or shared."""

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.operations.registry import execute
from admin.pages.blueprint import blueprint


@blueprint.post("/views")
@requires_role("viewer")
def save_view() -> ResponseReturnValue:
    form = {name: request.form.get(name, "") for name in ("name", "search")}
    execute(current_actor(), "views.save", **form, shared="shared" in request.form)
    flash(_("View %(name)s saved.", name=form["name"].strip()))
    return redirect(url_for("pages.runs", q=form["search"]), 303)


@blueprint.post("/views/<int:view_id>/delete")
@blueprint.delete("/views/<int:view_id>", endpoint="view")
@requires_role("viewer")
def delete_view(view_id: int) -> ResponseReturnValue:
    name = execute(current_actor(), "views.delete", view_id=view_id)
    if request.method == "DELETE":
        return "", 204
    flash(_("View %(name)s deleted.", name=name))
    return redirect(url_for("pages.runs"), 303)
