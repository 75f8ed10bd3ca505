"""Actions on one run: retry, run again with other arguments, cancel, delete."""

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

import tasks
from admin.auth.access import requires_role
from admin.auth.identity import current_actor
from admin.display.labels import short_id
from admin.forms import fields, task_form
from admin.operations import allowed_actions
from admin.operations.registry import execute
from admin.operations.runs import get_run
from admin.pages import confirm
from admin.pages.blueprint import blueprint
from admin.pages.confirm import Confirmation
from admin.problems import KNOWN_ERRORS, ConflictError, InvalidInput, to_http_error
from engine.exceptions import InvalidArguments
from engine.monitor import registered_tasks


def perform_or_flash(name: str, run_id: str) -> object:
    """Execute the action and return its result; flash the error and return False if it fails."""
    try:
        return execute(current_actor(), name, run_id=run_id) or True
    except (HTTPException, *KNOWN_ERRORS) as error:
        flash(str((error if isinstance(error, HTTPException) else to_http_error(error)).description), "error")
        return False


def run_page(run_id: str) -> BaseResponse:
    return redirect(url_for("pages.run", run_id=run_id), 303)


@blueprint.post("/runs/<run_id>/retry")
@requires_role("operator")
def run_retry(run_id: str) -> ResponseReturnValue:
    get_run(run_id)
    if perform_or_flash("runs.retry", run_id):
        flash(_("Run %(id)s re-queued.", id=short_id(run_id)))
    return run_page(run_id)


@blueprint.post("/runs/<run_id>/cancel")
@requires_role("operator")
def run_cancel(run_id: str) -> ResponseReturnValue:
    get_run(run_id)
    was = perform_or_flash("runs.cancel", run_id)
    if was == "running":
        flash(_("Run %(id)s is being interrupted.", id=short_id(run_id)))
    elif was:
        flash(_("Run %(id)s cancelled.", id=short_id(run_id)))
    return run_page(run_id)


# --- run again -----------------------------------------------------------------------------------------------


@blueprint.get("/runs/<run_id>/again")
@requires_role("operator")
def run_again(run_id: str) -> ResponseReturnValue:
    return rerun_page(run_id)


@blueprint.post("/runs/<run_id>/again")
@requires_role("operator")
def run_again_now(run_id: str) -> ResponseReturnValue:
    """Create the new run: with `same` in the form the old arguments, else the typed ones."""
    run = get_run(run_id)
    try:
        if "same" in request.form:
            arguments = task_form.Arguments(run.args or [], run.kwargs or {})
        else:
            form = rerun_form(run.task)
            kept = task_form.prefill(form, run.args or [], run.kwargs or {}).values
            arguments = task_form.parse_form(form, request.form, kept)
        new_run = execute(current_actor(), "runs.again", run_id=run_id, args=arguments.args, arguments=arguments.kwargs)
    except (InvalidInput, InvalidArguments) as error:
        wrong = error if isinstance(error, InvalidInput) else to_http_error(error)
        return rerun_page(run_id, wrong), 422
    except (HTTPException, *KNOWN_ERRORS) as error:
        flash(str((error if isinstance(error, HTTPException) else to_http_error(error)).description), "error")
        return run_page(run_id)
    flash(_("New run created."))
    return run_page(new_run.id)


def rerun_form(task: str) -> list[fields.Field]:
    queue, task_class = registered_tasks.find_task(tasks.queues, task)
    return fields.form_fields(registered_tasks.describe_task(queue, task_class))


def rerun_page(run_id: str, wrong: InvalidInput | HTTPException | None = None) -> str:
    run = get_run(run_id)
    if reason := allowed_actions.why_not_again(run, current_actor()):
        raise ConflictError(reason)
    form = rerun_form(run.task)
    filled = task_form.prefill(form, run.args or [], run.kwargs or {})
    texts = {
        field.name: field.shown(request.form.get(field.key, filled.texts.get(field.name, field.start)))
        for field in form
    }
    at_fault = next(
        (field.name for field in form if isinstance(wrong, InvalidInput) and field.name == wrong.field), None
    )
    return render_template(
        "runs/run_again.html", run=run, form=form, texts=texts, filled=filled, wrong=wrong, at_fault=at_fault
    )


# --- delete --------------------------------------------------------------------------------------------------


@blueprint.get("/runs/<run_id>/delete")
@requires_role("admin")
def run_delete(run_id: str) -> ResponseReturnValue:
    run = get_run(run_id)
    if reason := allowed_actions.why_not_delete(run, current_actor()):
        flash(reason, "error")
        return run_page(run_id)
    return confirm.render_confirmation(delete_question(run_id, run.task))


@blueprint.post("/runs/<run_id>/delete")
@requires_role("admin")
def run_delete_now(run_id: str) -> ResponseReturnValue:
    get_run(run_id)
    if not perform_or_flash("runs.delete", run_id):
        return run_page(run_id)
    flash(_("Run %(id)s deleted.", id=short_id(run_id)))
    return redirect(url_for("pages.runs"), 303)


@blueprint.delete("/runs/<run_id>")
@requires_role("admin")
def run_deleted(run_id: str) -> ResponseReturnValue:
    get_run(run_id)
    execute(current_actor(), "runs.delete", run_id=run_id)
    return "", 204


def delete_question(run_id: str, task: str) -> Confirmation:
    return Confirmation(
        title=_("Delete a run"),
        statement=_("Delete this run of %(task)s from the history?", task=task),
        facts=[(_("ID"), run_id)],
        consequences=[
            _("Its attempts, log and result are deleted with it."),
            _("Charts no longer count the run. The audit log records who deleted it."),
        ],
        button=_("Delete this run"),
        back=url_for("pages.run", run_id=run_id),
        back_button=_("Keep it"),
        page="pages.runs",
    )
