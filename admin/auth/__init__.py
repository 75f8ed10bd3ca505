"""Sign-in, roles and access control."""

from flask import Flask

from admin.auth import access, hosts, login, security_headers


def register(app: Flask) -> None:
    for part in (hosts, security_headers, access, login):
        part.register(app)
