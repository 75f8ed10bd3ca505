"""A page that is asked again every other second answers 304 until something on it has changed."""

import re
from hashlib import blake2b
from typing import Any

from flask import Response, make_response, render_template, request

#: What differs between two renderings of one truth: the form token, the hour of rendering, the words of a running clock
#: (not the instant that it runs from).
PASSING = re.compile(r'<input[^>]*name="csrf_token"[^>]*>|<time[^>]*data-tick="now"[^>]*>[^<]*|(?<=">)[^<]*(?=</time>)')


def page(template: str, **context: Any) -> Response:
    html = render_template(template, **context)
    response = make_response(html)
    response.set_etag(blake2b(PASSING.sub("", html).encode(), digest_size=12).hexdigest(), weak=True)
    return response.make_conditional(request)
