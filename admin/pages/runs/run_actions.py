"""What a person does with one run: retry, run again with other arguments, cancel, delete."""

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

import tasks
from admin.auth.access import needs
from admin.auth.identity import current_actor
from admin.display.labels import short
from admin.forms import fields, task_form
from admin.operations import allowed_actions
from admin.operations.registry import perform
from admin.operations.runs import get_run
from admin.pages import confirm
from admin.pages.blueprint import blueprint
from admin.pages.confirm import Question
from admin.problems import KNOWN_ERRORS, BadInput, Refused, as_http
from engine.exceptions import BadArguments
from engine.monitor import registered_tasks


def perform_or_flash(name: str, run_id: str) -> object:
    """Do it, and say so where it cannot be done. Gives back what the command gave, or False."""
    try:
        return perform(current_actor(), name, run_id=run_id) or True
    except (HTTPException, *KNOWN_ERRORS) as error:
        flash(str((error if isinstance(error, HTTPException) else as_http(error)).description), "error")
        return False


def page_of_run(run_id: str) -> BaseResponse:
    return redirect(url_for("pages.run", run_id=run_id), 303)


@blueprint.post("/runs/<run_id>/retry")
@needs("operator")
def run_retry(run_id: str) -> ResponseReturnValue:
    get_run(run_id)
    if perform_or_flash("runs.retry", run_id):
        flash(_("It is back in its queue, under the same id."))
    return page_of_run(run_id)


@blueprint.post("/runs/<run_id>/cancel")
@needs("operator")
def run_cancel(run_id: str) -> ResponseReturnValue:
    get_run(run_id)
    was = perform_or_flash("runs.cancel", run_id)
    if was == "running":
        flash(_("It is being interrupted."))
    elif was:
        flash(_("It is cancelled: it will not run."))
    return page_of_run(run_id)


# --- run again -----------------------------------------------------------------------------------------------


@blueprint.get("/runs/<run_id>/again")
@needs("operator")
def run_again(run_id: str) -> ResponseReturnValue:
    return again_page(run_id)


@blueprint.post("/runs/<run_id>/again")
@needs("operator")
def run_again_now(run_id: str) -> ResponseReturnValue:
    """`same`: with the arguments it had. Otherwise those that were typed."""
    run = get_run(run_id)
    try:
        if "same" in request.form:
            arguments = task_form.Arguments(run.args or [], run.kwargs or {})
        else:
            form = form_of(run.task)
            kept = task_form.filled(form, run.args or [], run.kwargs or {}).values
            arguments = task_form.parse(form, request.form, kept)
        new_run = perform(current_actor(), "runs.again", run_id=run_id, args=arguments.args, arguments=arguments.kwargs)
    except (BadInput, BadArguments) as error:
        wrong = error if isinstance(error, BadInput) else as_http(error)
        return again_page(run_id, wrong), 422
    except (HTTPException, *KNOWN_ERRORS) as error:
        flash(str((error if isinstance(error, HTTPException) else as_http(error)).description), "error")
        return page_of_run(run_id)
    flash(_("This is the new run."))
    return page_of_run(new_run.id)


def form_of(task: str) -> list[fields.Field]:
    queue, task_class = registered_tasks.find(tasks.queues, task)
    return fields.fields(registered_tasks.describe(queue, task_class))


def again_page(run_id: str, wrong: BadInput | HTTPException | None = None) -> str:
    run = get_run(run_id)
    if reason := allowed_actions.not_again(run, current_actor()):
        raise Refused(reason)
    form = form_of(run.task)
    filled = task_form.filled(form, run.args or [], run.kwargs or {})
    texts = {field.name: request.form.get(field.key, filled.texts.get(field.name, field.start)) for field in form}
    at_fault = next((field.name for field in form if isinstance(wrong, BadInput) and field.name == wrong.field), None)
    return render_template(
        "runs/run_again.html", run=run, form=form, texts=texts, filled=filled, wrong=wrong, at_fault=at_fault
    )


# --- delete --------------------------------------------------------------------------------------------------


@blueprint.get("/runs/<run_id>/delete")
@needs("admin")
def run_delete(run_id: str) -> ResponseReturnValue:
    run = get_run(run_id)
    if reason := allowed_actions.not_delete(run, current_actor()):
        flash(reason, "error")
        return page_of_run(run_id)
    return confirm.ask(question(run_id, run.task))


@blueprint.post("/runs/<run_id>/delete")
@needs("admin")
def run_delete_now(run_id: str) -> ResponseReturnValue:
    get_run(run_id)
    if not perform_or_flash("runs.delete", run_id):
        return page_of_run(run_id)
    flash(_("The run %(id)s is deleted.", id=short(run_id)))
    return redirect(url_for("pages.runs"), 303)


@blueprint.delete("/runs/<run_id>")
@needs("admin")
def run_deleted(run_id: str) -> ResponseReturnValue:
    get_run(run_id)
    perform(current_actor(), "runs.delete", run_id=run_id)
    return "", 204


def question(run_id: str, task: str) -> Question:
    return Question(
        title=_("Delete a run"),
        statement=_("Delete this run of %(task)s from the history?", task=task),
        facts=[(_("Id"), run_id)],
        consequences=[
            _("Its attempts, its log and its result go with it."),
            _("The counts of the charts no longer hold it. The audit keeps a line of who deleted it."),
        ],
        button=_("Delete this run"),
        back=url_for("pages.run", run_id=run_id),
        back_button=_("Keep it"),
        page="pages.runs",
    )
