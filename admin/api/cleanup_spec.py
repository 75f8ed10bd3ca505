"""The three requests about reading sessions, whose form scripts rely on to the letter, as OpenAPI describes them."""

from typing import Any

PATH_PREFIX = "/api/v1/admin/reading-sessions"

STATISTICS = {
    "total_closed": {"type": "integer"},
    "total_active": {"type": "integer"},
    "avg_duration_minutes": {"type": "number"},
    "no_progress_count": {"type": "integer"},
    "period_hours": {"type": "integer", "minimum": 1, "maximum": 168},
    "timestamp": {"type": "string", "format": "date-time"},
}
RESULT = {
    "closed_count": {"type": "integer"},
    "execution_time_ms": {"type": "number"},
    "deadline": {"type": "string", "format": "date-time"},
    "error": {"type": ["string", "null"]},
}
ACCEPTED = {
    "task_id": {"type": "string", "format": "uuid"},
    "status": {"const": "PENDING"},
    "message": {"type": "string"},
}


def operation(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip
    return {"description": description, "content": {"application/json": {"schema": schema}}}


HOURS = {
    "name": "hours",
    "in": "query",
    "required": False,
    "schema": {"type": "integer", "minimum": 1, "maximum": 168, "default": 24},
}

#: Path, method, role, operation.
CLEANUP_OPERATIONS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    (
        f"{PATH_PREFIX}/cleanup-stats",
        "get",
        "viewer",
        {
            "operationId": "reading-sessions.cleanup-stats",
            "summary": "Count the sessions closed in the last hours, and those active now.",
            "parameters": [HOURS],
            "responses": {"200": operation("The figures.", STATISTICS), "304": {"description": "As it was."}},
        },
    ),
    (
        f"{PATH_PREFIX}/cleanup",
        "post",
        "operator",
        {
            "operationId": "reading-sessions.cleanup",
            "summary": "Close the abandoned sessions, and wait up to 30 seconds for the result.",
            "responses": {"200": operation("The result.", RESULT), "202": operation("It goes on.", ACCEPTED)},
        },
    ),
    (
        f"{PATH_PREFIX}/cleanup-async",
        "post",
        "operator",
        {
            "operationId": "reading-sessions.cleanup-async",
            "summary": "Close the abandoned sessions without waiting.",
            "responses": {"202": operation("It is enqueued.", ACCEPTED)},
        },
    ),
)
