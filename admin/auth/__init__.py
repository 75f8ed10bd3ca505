"""Sign-in, roles and access control."""

from flask import Flask

from admin.auth import access, login, security_headers


def register(app: Flask) -> None:
    for part in (security_headers, access, login):
        part.register(app)
