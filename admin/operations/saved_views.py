"""What can be asked and done of saved views of the list of runs."""

from typing import NamedTuple

from flask_babel import gettext as _

from admin.auth.identity import Who, current_actor_or_none
from admin.operations.queries import read
from admin.operations.registry import Outcome, action
from admin.problems import BadInput, NotAllowed, Refused
from admin.search import run_query
from admin.search.syntax import BadSearch, parse
from engine.models import now
from models import SavedView

MOST = 50

#: More names than this are no help.
SHOWN = 50


@action("views.save", "viewer", makes=True)
def save(actor: Who, name: str, search: str, shared: bool = False) -> Outcome[str]:
    """Keep a filter of the runs under a name, for oneself or, which takes an operator, for everybody.

    One of the same owner and name is replaced.
    """
    name = name.strip()
    if not 1 <= len(name) <= 60 or not name.isprintable():
        raise BadInput("name", _("from 1 to 60 printable characters are needed"))
    try:
        terms = parse(search)
        run_query.lookup(terms, now())
    except BadSearch as error:
        raise BadInput("search", str(error)) from error
    if not terms:
        raise BadInput("search", _("a view of everything is the list itself"))
    if shared and not actor.may("operator"):
        raise NotAllowed(_("The role operator is needed to share a view."))
    own_views = SavedView.owner == actor.name
    if SavedView.select().where(own_views & (SavedView.name != name)).count() >= MOST:
        raise Refused(_("Nobody needs more than %(most)s views; remove one first.", most=MOST))
    row = {"name": name, "owner": actor.name, "search": search, "shared": shared, "created_at": now()}
    replaced = [SavedView.search, SavedView.shared, SavedView.created_at]
    SavedView.insert(row).on_conflict(conflict_target=[SavedView.owner, SavedView.name], preserve=replaced).execute()
    return Outcome(name, name, after={"search": search, "shared": shared})


@action("views.delete", "viewer")
def delete(actor: Who, view_id: int) -> Outcome[str]:
    """Remove a view of one's own; an admin, any that is shared. Gives back its name."""
    view = SavedView.get_or_none(SavedView.id == view_id)
    if view is None or not (view.shared or view.owner == actor.name):
        raise Refused(_("There is no such view."))
    if view.owner != actor.name and not actor.may("admin"):
        raise NotAllowed(_("The role admin is needed to remove a view of somebody else."))
    view.delete_instance()
    return Outcome(view.name, view.name, before={"search": view.search, "owner": view.owner, "shared": view.shared})


class Views(NamedTuple):
    views: list[SavedView]


@read("views.list", "/views", columns=("id", "name", "search", "shared", "owner"))
def saved_views() -> Views:
    """The views that one may use: one's own, and those that are shared."""
    return Views(visible())


def visible() -> list[SavedView]:
    """The views that whoever asks may use, by name."""
    actor = current_actor_or_none()
    mine_or_shared = SavedView.shared | (SavedView.owner == (actor.name if actor else None))
    return list(SavedView.select().where(mine_or_shared).order_by(SavedView.name, SavedView.id).limit(SHOWN))
