"""The three requests about reading sessions, whose form scripts rely on to the letter, as OpenAPI describes them."""

from typing import Any

ADDRESS = "/api/v1/admin/reading-sessions"

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


def of(description: str, properties: dict[str, Any]) -> dict[str, Any]:
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
LETTER: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    (
        f"{ADDRESS}/cleanup-stats",
        "get",
        "viewer",
        {
            "operationId": "reading-sessions.cleanup-stats",
            "summary": "Count the sessions closed in the last hours, and those active now.",
            "parameters": [HOURS],
            "responses": {"200": of("The figures.", STATISTICS), "304": {"description": "As it was."}},
        },
    ),
    (
        f"{ADDRESS}/cleanup",
        "post",
        "operator",
        {
            "operationId": "reading-sessions.cleanup",
            "summary": "Close the abandoned sessions, and wait up to 30 seconds for the result.",
            "responses": {"200": of("The result.", RESULT), "202": of("It goes on.", ACCEPTED)},
        },
    ),
    (
        f"{ADDRESS}/cleanup-async",
        "post",
        "operator",
        {
            "operationId": "reading-sessions.cleanup-async",
            "summary": "Close the abandoned sessions without waiting.",
            "responses": {"202": of("It is enqueued.", ACCEPTED)},
        },
    ),
)
