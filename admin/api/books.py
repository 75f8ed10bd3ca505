"""The upload of a book. Its body is streamed to disk, never into memory or a temporary folder of the system."""

from contextlib import ExitStack
from io import RawIOBase
from typing import IO, NamedTuple, cast

from flask import request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.formparser import FormDataParser

from admin.api.blueprint import blueprint
from admin.auth.access import accepts_any_body, accepts_upload, requires_role
from admin.auth.identity import current_actor
from admin.operations import books
from admin.operations.schemas import to_data
from admin.problems import InvalidInput
from config import settings
from reading.files import FileStore, IncomingFile, book_files

MEBIBYTE = 1 << 20
#: Longest body: the largest file, and 64 KiB for the multipart frame around it.
MOST_BYTES = settings.books_max_mb * MEBIBYTE + (64 << 10)


class IncomingStream(RawIOBase):
    """An incoming file as the form parser writes it."""

    def __init__(self, file: IncomingFile) -> None:
        self.file = file

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return self.file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """The parser rewinds a stream that it has filled."""
        return offset


@blueprint.post("/api/v1/admin/books")
@requires_role("operator")
@accepts_upload(MOST_BYTES)
@accepts_any_body
def add_book() -> ResponseReturnValue:
    """Add a book from the field `file` of a multipart form."""
    with ExitStack() as stack:
        upload = receive_file(stack, book_files)
        if not upload.file.size:
            raise InvalidInput("file", _("must not be empty"))
        added = books.add_file(current_actor(), upload.file, upload.name)
    return to_data(added), 200 if added.duplicate else 202


class Upload(NamedTuple):
    file: IncomingFile
    name: str


def receive_file(stack: ExitStack, files: FileStore) -> Upload:
    """Stream the body's file into an incoming file that lives as long as `stack`. Raises UnsupportedMediaType."""
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType(_("The content type must be one of %(kinds)s.", kinds="multipart/form-data"))

    def open_stream(
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return cast(IO[bytes], IncomingStream(stack.enter_context(files.receive())))

    parser = FormDataParser(stream_factory=open_stream, max_form_memory_size=MEBIBYTE, max_form_parts=10, silent=False)
    try:
        _stream, _fields, uploads = parser.parse(
            request.stream, request.mimetype, request.content_length, request.mimetype_params
        )
    except ValueError as error:
        raise InvalidInput("file", _("must be a complete multipart form: %(why)s", why=str(error))) from error
    upload: FileStorage | None = uploads.get("file")
    if upload is None:
        raise InvalidInput("file", _("must be given"))
    return Upload(cast(IncomingStream, upload.stream).file, upload.filename or "book")
