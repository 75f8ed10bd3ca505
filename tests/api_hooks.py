"""Schemathesis hooks for rules of the API that its schema cannot state.

Each idempotency key is sent once. A well-formed value of these fields may still be invalid. A search has a grammar, a
cursor comes from the previous page, and a time must be in the future.
"""

import re
import uuid
from typing import Any

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

from admin.api.idempotency import HEADER, PATTERN

GRAMMAR = {"state", "task", "queue", "from", "to", "worker", "by", "ended", "q"}
PRINTABLE = {"reader", "book", "run"}
CURSOR = {"before", "after"}
FUTURE = {"until"}

#: Operations whose fields are the arguments of any task.
ANY_FIELD = {"tasks.run", "runs.again"}

BEYOND = {
    "runs.list": GRAMMAR | CURSOR,
    "runs.counts": GRAMMAR,
    "sessions.list": PRINTABLE | CURSOR,
    "bulk.preflight": {"search", "run", "runs"},
    "bulk.retry": {"search", "runs"},
    "bulk.cancel": {"search", "runs"},
    "bulk.delete": {"search", "runs"},
    "views.save": {"search", "name"},
    "operators.create": {"email", "password"},
    "tokens.create": {"name", "days"},
}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    key = (case.headers or {}).get(HEADER)
    if key and re.fullmatch(PATTERN, key):
        case.headers[HEADER] = str(uuid.uuid4())


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 422:
        return True
    operation = case.operation.definition.raw["operationId"]
    return operation not in ANY_FIELD and response.json().get("field") not in BEYOND.get(operation, CURSOR | FUTURE)
