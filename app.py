"""The web application: `create_app()` registers sign-in, pages, API and commands."""

from flask import Flask
from werkzeug.routing import IntegerConverter

from admin import api, auth, cli, display, flower, i18n, pages, problems
from config import settings
from engine import database
from engine.keys import derive_keys
from engine.private_files import restrict_folders


class RowNumber(IntegerConverter):
    """A number in an address. A longer one becomes the largest of 64 bits, as SQLite cannot compare others."""

    def to_python(self, value: str) -> int:
        return int(super().to_python(value)) if len(value) < 19 else 2**63 - 1


def create_app() -> Flask:
    restrict_folders(settings.data_dir)
    app = Flask(__name__)
    app.url_map.converters["int"] = RowNumber
    app.secret_key, *former_keys = derive_keys(b"cookies")
    # Until the next release: 0.9 signed with SECRET_KEY itself.
    raw_keys = [settings.secret_key, *settings.secret_key_old]
    app.config.update(
        MAX_CONTENT_LENGTH=1 << 20,
        SECRET_KEY_FALLBACKS=[*former_keys, *raw_keys],
        WTF_CSRF_SECRET_KEY=[*raw_keys, *reversed(derive_keys(b"forms"))],  # the last one signs
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask declares only the base class
    app.context_processor(lambda: {"environment": settings.environment})
    for room in (problems, i18n, flower, api, auth, display, pages, cli):
        room.register(app)
    app.teardown_appcontext(lambda error: database.release_connection())
    return app
