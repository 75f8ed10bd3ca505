"""The sample library."""

from admin.auth.identity import Actor
from admin.operations.registry import ActionResult, register_action
from admin.problems import ConflictError
from engine.models import now
from reading import sample_data


@register_action("library.demo", "admin")
def load_sample_library(actor: Actor) -> ActionResult[dict[str, int]]:
    """Load the sample library into a database that Dewey created. Returns the number of rows by table."""
    try:
        counts = sample_data.load(now())
    except (sample_data.ForeignTables, sample_data.AlreadyLoaded) as error:
        raise ConflictError(str(error)) from error
    return ActionResult(counts, after=counts)
