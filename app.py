"""The web application: `create_app()` registers sign-in, pages, API and commands."""

from flask import Flask

from admin import api, auth, cli, display, flower, i18n, pages, problems
from config import settings
from engine import database
from engine.private_files import restrict_folders


def create_app() -> Flask:
    restrict_folders(settings.data_dir)
    app = Flask(__name__)
    app.secret_key = settings.secret_key
    app.config.update(MAX_CONTENT_LENGTH=1 << 20)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask declares only the base class
    app.context_processor(lambda: {"environment": settings.environment})
    for room in (problems, i18n, flower, api, auth, display, pages, cli):
        room.register(app)
    app.teardown_appcontext(lambda error: database.release_connection())
    return app
