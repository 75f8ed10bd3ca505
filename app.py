"""The web program: `create_app()` puts sign-in, pages, API and commands together."""

from flask import Flask

from admin import access, api, cli, headers, pages, problems, sign_in
from config import settings
from engine import database


def create_app() -> Flask:
    app = Flask(__name__)
    app.secret_key = settings.secret_key
    app.config.update(MAX_CONTENT_LENGTH=1 << 20)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.context_processor(lambda: {"environment": settings.environment, "language": settings.language})
    for part in (headers, access, sign_in, problems, cli):
        part.register(app)
    for part in (pages, api):
        app.register_blueprint(part.blueprint)
    app.teardown_appcontext(lambda error: database.release())
    return app
