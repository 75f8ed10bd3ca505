"""Queries and actions for saved views of the list of runs."""

from typing import NamedTuple

from flask_babel import gettext as _

from admin.auth.identity import Actor, current_actor_or_none
from admin.operations.queries import register_query
from admin.operations.registry import ActionResult, register_action
from admin.problems import ConflictError, ForbiddenError, InvalidInput
from admin.search import run_query
from admin.search.syntax import InvalidSearch, parse_search
from engine.models import now
from models import SavedView

MAX_VIEWS = 50

MAX_SHOWN = 50


@register_action("views.save", "viewer", creates=True)
def save_view(actor: Actor, name: str, search: str, shared: bool = False) -> ActionResult[str]:
    """Save a filter of the runs under a name. Sharing it requires the operator role.

    A view of the same owner and name is replaced.
    """
    name = name.strip()
    if not 1 <= len(name) <= 60 or not name.isprintable():
        raise InvalidInput("name", _("must be 1 to 60 printable characters"))
    try:
        terms = parse_search(search)
        run_query.build_query(terms, now())
    except InvalidSearch as error:
        raise InvalidInput("search", str(error)) from error
    if not terms:
        raise InvalidInput("search", _("must have at least one filter"))
    if shared and not actor.may("operator"):
        raise ForbiddenError(_("Sharing a view requires the operator role."))
    own_views = SavedView.owner == actor.name
    if SavedView.select().where(own_views & (SavedView.name != name)).count() >= MAX_VIEWS:
        raise ConflictError(_("You have reached the limit of %(most)s saved views. Delete one first.", most=MAX_VIEWS))
    row = {"name": name, "owner": actor.name, "search": search, "shared": shared, "created_at": now()}
    replaced = [SavedView.search, SavedView.shared, SavedView.created_at]
    SavedView.insert(row).on_conflict(conflict_target=[SavedView.owner, SavedView.name], preserve=replaced).execute()
    return ActionResult(name, name, after={"search": search, "shared": shared})


@register_action("views.delete", "viewer")
def delete_view(actor: Actor, view_id: int) -> ActionResult[str]:
    """Delete your own view, or as an admin any shared one. Returns its name."""
    view = SavedView.get_or_none(SavedView.id == view_id)
    if view is None or not (view.shared or view.owner == actor.name):
        raise ConflictError(_("No saved view with this id."))
    if view.owner != actor.name and not actor.may("admin"):
        raise ForbiddenError(_("Deleting another user's view requires the admin role."))
    view.delete_instance()
    return ActionResult(
        view.name, view.name, before={"search": view.search, "owner": view.owner, "shared": view.shared}
    )


class Views(NamedTuple):
    views: list[SavedView]


@register_query("views.list", "/views", columns=("id", "name", "search", "shared", "owner"))
def list_saved_views() -> Views:
    """List your own and shared views."""
    return Views(visible_views())


def visible_views() -> list[SavedView]:
    """Return the views of the current actor and shared ones, by name."""
    actor = current_actor_or_none()
    mine_or_shared = SavedView.shared | (SavedView.owner == (actor.name if actor else None))
    return list(SavedView.select().where(mine_or_shared).order_by(SavedView.name, SavedView.id).limit(MAX_SHOWN))
