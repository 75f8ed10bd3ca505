"""The sample library."""

from admin.auth.identity import Actor
from admin.operations.books import add_file
from admin.operations.registry import ActionResult, register_action
from admin.problems import ConflictError
from engine.models import now
from models import Book
from reading import sample_data
from reading.files import book_files
from reading.sample_books import SAMPLE_FILES


@register_action("library.demo", "admin", in_transaction=False)
def load_sample_library(actor: Actor) -> ActionResult[dict[str, int]]:
    """Load the sample library into a database that Dewey created. Returns the number of rows by table.

    Three of its books have their text. They are processed by the heavy queue.
    """
    try:
        counts = sample_data.load(now())
    except (sample_data.ForeignTables, sample_data.AlreadyLoaded) as error:
        raise ConflictError(str(error)) from error
    for sample in SAMPLE_FILES:
        known = Book.get_or_none((Book.title == sample.title) & (Book.author == sample.author))
        with sample.path.open("rb") as source, book_files.receive() as file:
            file.copy(source)
            add_file(actor, file, sample.path.name, known or Book(title=sample.title, author=sample.author))
    return ActionResult(counts, after=counts)
