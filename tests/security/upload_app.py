"""The console with a view that takes uploads: `upload_app:create_app()`, with this folder on its path.

`SECONDS_FOR_CLIENTS` shortens the deadlines of the web server.
"""

import os
from typing import Any

from admin.server import pace
from config import settings

if seconds := os.environ.get("SECONDS_FOR_CLIENTS"):
    pace.HEAD_SECONDS = pace.STALL_SECONDS = float(seconds)


def create_app() -> Any:
    from flask import request

    from admin.auth.access import accepts_upload, requires_role
    from app import create_app

    app = create_app()

    @app.post("/api/upload")
    @requires_role("operator")
    @accepts_upload(30 << 20)
    def upload() -> dict[str, int]:
        with open(settings.data_dir / "upload", "wb") as file:
            while part := request.stream.read(64 << 10):
                file.write(part)
            return {"bytes": file.tell()}

    return app
