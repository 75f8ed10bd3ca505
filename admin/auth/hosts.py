"""Trusted hosts and proxies: which `Host` is answered, and whose `X-Forwarded-For` and `-Proto` are believed."""

from urllib.parse import urlsplit

from flask import Flask, request
from flask_babel import gettext as _
from werkzeug.exceptions import BadRequest
from werkzeug.middleware.proxy_fix import ProxyFix

from config import settings

#: Probes send any Host, such as the address of a container.
PROBE_PATHS = ("/healthz", "/healthcheck", "/readyz")


def register(app: Flask) -> None:
    app.before_request(reject_untrusted_host)
    believe_proxies(app, settings.trusted_proxies)


def believe_proxies(app: Flask, count: int) -> None:
    """Take the client's address and scheme from the headers that the last `count` proxies added."""
    if count:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count)  # type: ignore[method-assign]


def reject_untrusted_host() -> None:
    """Reject a Host that is not ours. A page of another site could have bound its own name to this address."""
    if not has_trusted_host() and request.path not in PROBE_PATHS:
        raise BadRequest(
            _("Host %(host)s is not trusted. Add its name to TRUSTED_HOSTS.", host=repr(request.host[:100]))
        )


def has_trusted_host() -> bool:
    name = urlsplit(f"//{request.host}").hostname
    return name in settings.trusted_hosts or "*" in settings.trusted_hosts
