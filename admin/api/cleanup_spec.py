"""OpenAPI descriptions of the three cleanup endpoints, whose exact form scripts rely on."""

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
            "summary": "Count sessions closed in the last hours and active ones.",
            "parameters": [HOURS],
            "responses": {"200": operation("The figures.", STATISTICS), "304": {"description": "Not modified."}},
        },
    ),
    (
        f"{PATH_PREFIX}/cleanup",
        "post",
        "operator",
        {
            "operationId": "reading-sessions.cleanup",
            "summary": "Close abandoned sessions and wait up to 30 seconds for the result.",
            "responses": {
                "200": operation("The result.", RESULT),
                "202": operation("The cleanup is still running.", ACCEPTED),
            },
        },
    ),
    (
        f"{PATH_PREFIX}/cleanup-async",
        "post",
        "operator",
        {
            "operationId": "reading-sessions.cleanup-async",
            "summary": "Close abandoned sessions without waiting.",
            "responses": {"202": operation("The cleanup is enqueued.", ACCEPTED)},
        },
    ),
)
