"""What can be done about the library."""

from admin.auth.identity import Who
from admin.operations.registry import Outcome, action
from admin.problems import Refused
from engine.models import now
from reading import sample_data


@action("library.demo", "admin")
def load_sample_library(actor: Who) -> Outcome[dict[str, int]]:
    """Load the sample library into a database of our own; gives back how many rows of what."""
    try:
        counts = sample_data.load(now())
    except (sample_data.NotOwnLibrary, sample_data.AlreadyLoaded) as error:
        raise Refused(str(error)) from error
    return Outcome(counts, after=counts)
