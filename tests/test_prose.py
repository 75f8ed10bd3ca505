"""The rules of docs/style.md that a machine can check. This file is excluded, because it quotes the words."""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from babel.messages.extract import extract

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "translations"))

from gather import JINJA, KEYWORDS  # noqa: E402

WORDS = re.compile(
    r"\b(told|tells|whom|whoever|anew|mended|heed(s|ed|ing)?|nobody|somebody"
    r"|let(s|ting)?\s+go\s+of|goes\s+on\s+with|signs?\s+of\s+life)\b",
    re.IGNORECASE,
)
OPENERS = re.compile(r"(What|Who|Whether|Of|Where|One|As|That|In)(?![\w-])")
BEGINS_WITH_IT = re.compile(r"\s*It\s+[a-z]")
MAX_WORDS = 25

#: The style guide quotes the words too.
EXCLUDED = {"tests/test_prose.py", "docs/style.md"}
TEXTS = ("*.md", "docs/**/*.md", "docs/*.yml", "docs/*.json", "templates/**/*.html", "static/*.js", "static/*.css")
SETTINGS = ("Makefile", "Dockerfile", "docker-compose.yml", ".env.example", ".ci/run", "pyproject.toml", "bin/*")
SOURCES = ("*.py", *(f"{folder}/**/*.py" for folder in ("admin", "benchmarks", "engine", "migrations", "reading")))
MORE_SOURCES = ("tests/**/*.py", "tests/*.c", "translations/*.py", "engine/broker/lua/**/*.lua")

#: File → faults that are left.
# fmt: off
ALLOWED: dict[str, int] = {
    "Makefile": 1, "admin/alerts/channels.py": 5, "admin/alerts/database_outage.py": 11,
    "admin/alerts/delivery.py": 8, "admin/alerts/rule_status.py": 3, "admin/alerts/text.py": 7,
    "admin/alerts/watcher.py": 5, "admin/api/cleanup.py": 1, "admin/api/cleanup_spec.py": 2,
    "admin/api/health.py": 1, "admin/api/idempotency.py": 4, "admin/api/metrics.py": 8, "admin/api/openapi.py": 1,
    "admin/api/request_metrics.py": 2, "admin/api/routes.py": 6, "admin/audit_log.py": 7,
    "admin/auth/__init__.py": 1, "admin/auth/access.py": 6, "admin/auth/identity.py": 6, "admin/auth/login.py": 3,
    "admin/auth/passwords.py": 2, "admin/auth/security_headers.py": 1, "admin/auth/wrong_tries.py": 1,
    "admin/cache.py": 1, "admin/cli/alerts.py": 6, "admin/cli/audit.py": 4, "admin/cli/errors.py": 3,
    "admin/cli/generated.py": 4, "admin/cli/output.py": 9, "admin/cli/query.py": 1, "admin/cli/schedule.py": 1,
    "admin/cli/status.py": 2, "admin/cli/steering.py": 4, "admin/cli/supervisor.py": 2, "admin/cli/watch.py": 1,
    "admin/cli/workers.py": 8, "admin/display/attention.py": 4, "admin/display/bar_chart.py": 4,
    "admin/display/bars.py": 1, "admin/display/csv_text.py": 1, "admin/display/labels.py": 1,
    "admin/display/numbers.py": 4, "admin/display/run_strip.py": 2, "admin/display/schedules.py": 4,
    "admin/display/timeline.py": 5, "admin/display/truncate.py": 2, "admin/flower/serializers.py": 4,
    "admin/flower/views.py": 8, "admin/forms/fields.py": 2, "admin/forms/list_filters.py": 4,
    "admin/forms/task_form.py": 2, "admin/i18n.py": 2, "admin/operations/__init__.py": 1,
    "admin/operations/account.py": 2, "admin/operations/alerts.py": 3, "admin/operations/allowed_actions.py": 2,
    "admin/operations/audit.py": 2, "admin/operations/bulk.py": 3, "admin/operations/dead_runs.py": 1,
    "admin/operations/errors.py": 7, "admin/operations/history.py": 1, "admin/operations/library.py": 1,
    "admin/operations/operators.py": 4, "admin/operations/queries.py": 2, "admin/operations/queues.py": 2,
    "admin/operations/registry.py": 4, "admin/operations/runs.py": 4, "admin/operations/saved_views.py": 4,
    "admin/operations/schedules.py": 3, "admin/operations/schemas.py": 4, "admin/operations/sessions.py": 3,
    "admin/operations/tasks.py": 3, "admin/operations/tokens.py": 2, "admin/operations/workers.py": 4,
    "admin/pages/blueprint.py": 1, "admin/pages/confirm.py": 1, "admin/pages/library/session_charts.py": 1,
    "admin/pages/live_refresh.py": 1, "admin/pages/people/account.py": 2, "admin/pages/people/audit.py": 1,
    "admin/pages/people/operators.py": 1, "admin/pages/queues/worker_actions.py": 12,
    "admin/pages/queues/workers.py": 6, "admin/pages/runs/bulk.py": 9, "admin/pages/runs/dead_runs.py": 3,
    "admin/pages/runs/errors.py": 4, "admin/pages/runs/run.py": 5, "admin/pages/runs/run_actions.py": 4,
    "admin/pages/system/alerts.py": 4, "admin/pages/system/api_docs.py": 2, "admin/pages/system/help.py": 15,
    "admin/pages/system/overview.py": 2, "admin/problems.py": 10, "admin/search/run_filter.py": 4,
    "admin/search/run_query.py": 2, "admin/search/syntax.py": 1, "benchmarks/drain.py": 1,
    "benchmarks/footprint.py": 1, "benchmarks/machine.py": 1, "benchmarks/million.py": 5, "benchmarks/table.py": 1,
    "config.py": 2, "engine/back_off.py": 2, "engine/broker/heartbeats.py": 1, "engine/broker/huey_storage.py": 1,
    "engine/broker/lua/lib/common.lua": 1, "engine/broker/lua/lib/settle.lua": 1, "engine/broker/messages.py": 3,
    "engine/broker/parsing.py": 1, "engine/broker/redis/client.py": 1, "engine/broker/sqlite/database.py": 1,
    "engine/broker/storage.py": 3, "engine/control/bulk.py": 5, "engine/control/retention.py": 1,
    "engine/control/runs.py": 5, "engine/control/schedules.py": 2, "engine/database.py": 1,
    "engine/exceptions.py": 3, "engine/hash_chain.py": 4, "engine/history/error_groups.py": 4,
    "engine/history/recorder.py": 1, "engine/history/run_counts.py": 9, "engine/history/run_totals.py": 1,
    "engine/history/task_stats.py": 1, "engine/history/tracebacks.py": 1, "engine/history/writer.py": 4,
    "engine/migrations.py": 4, "engine/models.py": 9, "engine/monitor/alert_rules.py": 7,
    "engine/monitor/alerts.py": 14, "engine/monitor/broker_health.py": 2, "engine/monitor/celery_inspect.py": 5,
    "engine/monitor/consumers.py": 1, "engine/monitor/dead_letters.py": 4, "engine/monitor/diagnosis.py": 7,
    "engine/monitor/health.py": 7, "engine/monitor/queue_contents.py": 2, "engine/monitor/registered_tasks.py": 1,
    "engine/monitor/schedule_history.py": 1, "engine/monitor/status.py": 6, "engine/monitor/write_probe.py": 1,
    "engine/outages.py": 1, "engine/queues/crontab.py": 1, "engine/queues/execution.py": 1,
    "engine/queues/log_capture.py": 2, "engine/queues/queue.py": 2, "engine/queues/remote_control.py": 3,
    "engine/queues/ticks.py": 4, "engine/refusals.py": 1, "engine/search/filters.py": 5,
    "engine/search/query_plan.py": 2, "engine/search/related_runs.py": 1, "engine/search/run_search.py": 2,
    "engine/worker/__init__.py": 1, "engine/worker/consumer.py": 1, "engine/worker/healthcheck.py": 2,
    "engine/worker/stack_dump.py": 1, "gunicorn.conf.py": 2, "migrations/0002_runs.py": 1,
    "migrations/0003_people.py": 1, "migrations/0005_statistics_index.py": 1, "migrations/0011_worker_slots.py": 1,
    "migrations/0015_alerts_and_metrics.py": 1, "models.py": 7, "reading/__init__.py": 1,
    "reading/sample_data.py": 1, "reading/sessions.py": 2, "static/live.js": 4, "tasks.py": 2,
    "templates/_parts.html": 6, "templates/library/_progress.html": 1, "templates/library/session_close.html": 2,
    "templates/library/sessions.html": 1, "templates/people/audit.html": 1, "templates/queues/_schedule.html": 3,
    "templates/queues/_schedule_words.html": 1, "templates/queues/queue.html": 4, "templates/queues/queues.html": 1,
    "templates/queues/schedule.html": 2, "templates/queues/schedule_of.html": 1,
    "templates/queues/schedule_pause.html": 1, "templates/queues/task.html": 2, "templates/queues/tasks.html": 1,
    "templates/queues/worker.html": 6, "templates/runs/_why.html": 23, "templates/runs/bulk_new.html": 1,
    "templates/runs/dead.html": 1, "templates/runs/dead_message.html": 1, "templates/runs/error_group.html": 2,
    "templates/system/_attention.html": 1, "templates/system/alerts.html": 10, "templates/system/overview.html": 1,
    "tests/browser/test_accessibility.py": 1, "tests/browser/test_queues_workers.py": 5,
    "tests/browser/test_run.py": 2, "tests/test_alerts_page.py": 12, "tests/test_bulk.py": 3,
    "tests/test_channels.py": 4, "tests/test_dead_page.py": 1, "tests/test_errors_page.py": 1,
    "tests/test_inspect_scheduled.py": 2, "tests/test_overview.py": 2, "tests/test_queues_page.py": 2,
    "tests/test_run_page.py": 3, "tests/test_schedule_page.py": 3, "tests/test_sessions_page.py": 1,
    "tests/test_steering.py": 2, "tests/test_tasks_page.py": 2, "tests/test_terminal.py": 1,
    "tests/test_watch.py": 3, "tests/test_why.py": 1, "tests/test_workers_page.py": 6,
}
# fmt: on


class Fault(NamedTuple):
    line: int
    rule: str
    text: str


def test_files_follow_the_style() -> None:
    faults = {name: find_faults(ROOT / name) for name in source_files()}
    beyond = {name: found for name, found in faults.items() if len(found) > ALLOWED.get(name, 0)}
    assert not beyond, "\n" + "\n".join(
        f"{name}:{fault.line}: {fault.rule}: {fault.text}" for name, found in beyond.items() for fault in found
    )
    assert not {name for name in ALLOWED if len(faults.get(name, [])) < ALLOWED[name]}, "lower the numbers of ALLOWED"


def test_readme_sentences_are_short() -> None:
    lengths = {text: len(text.split()) for text in sentences((ROOT / "README.md").read_text())}
    assert len(lengths) > 20
    assert [text for text, length in lengths.items() if length > MAX_WORDS] == []


def source_files() -> list[str]:
    patterns = (*TEXTS, *SETTINGS, *SOURCES, *MORE_SOURCES)
    names = {str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)}
    assert len(names) > 500
    return sorted(names - EXCLUDED)


def find_faults(path: Path) -> list[Fault]:
    text = path.read_text()
    readers = {".py": python_faults, ".html": template_faults, ".css": css_faults}
    return sorted(readers.get(path.suffix, word_faults)(text))


def word_faults(text: str, line: int = 1) -> Iterator[Fault]:
    for match in WORDS.finditer(text):
        yield Fault(line + text.count("\n", 0, match.start()), match[0], line_around(text, match.start()))


def line_around(text: str, place: int) -> str:
    return text[text.rfind("\n", 0, place) + 1 :].split("\n")[0].strip()[:100]


def python_faults(source: str) -> Iterator[Fault]:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or ""
            if opener := OPENERS.match(docstring):
                yield Fault(node.body[0].lineno, f"docstring begins with {opener[0]}", docstring.split("\n")[0])
    for line, text in string_literals(tree):
        yield from word_faults(text, line)
        if BEGINS_WITH_IT.match(text):
            yield Fault(line, "message begins with It", text)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from word_faults(token.string, token.start[0])


def template_faults(source: str) -> Iterator[Fault]:
    yield from word_faults(re.sub(r'\b(class|id)="[^"]*"', "", source))
    for line, ids, _, _ in extract("jinja2", io.BytesIO(source.encode()), KEYWORDS, options=JINJA):
        for text in ids if isinstance(ids, tuple) else (ids,):
            if BEGINS_WITH_IT.match(text or ""):
                yield Fault(line, "message begins with It", text)


def css_faults(source: str) -> Iterator[Fault]:
    for comment in re.finditer(r"/\*.*?\*/", source, re.DOTALL):
        yield from word_faults(comment[0], 1 + source.count("\n", 0, comment.start()))


def string_literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each string, implicit concatenations as one and f-strings with {} for values."""
    parts: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(node.values)
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            yield node.lineno, node.value


def sentences(markdown: str) -> list[str]:
    """Return the sentences, list items and table cells, without code blocks."""
    prose = re.sub(r"```.*?```", "\n", markdown, flags=re.DOTALL)
    ends = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\||^\s*(?:[*-]|\d+\.)\s", re.MULTILINE)
    return [text for text in ends.split(prose) if text and text.strip()]


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ('"""What a run costs."""', "docstring begins with What"),
        ('def run():\n    """One run."""', "docstring begins with One"),
        ('print("The broker " "tells it.")', "tells"),
        ('print(f"{name} is let go " f"of.")', "let go of"),
        ('print(f"A sign of {name}", f"{name}: nobody")', "nobody"),
        ('print("It is back in its queue.")', "message begins with It"),
        ('print(f"It takes {number}.")', "message begins with It"),
        ("total = 1  # told once", "told"),
        ('"""Return it.\n\nA sign of\nlife."""', "sign of\nlife"),
    ],
)
def test_faults_of_python_are_found(source: str, rule: str) -> None:
    assert [fault.rule for fault in python_faults(source)] == [rule]


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ('<p class="told">{{ _("Nobody.") }}</p>', "Nobody"),
        ("{# A macro for\n#}\n{% trans %}\n  It is resolved.\n{% endtrans %}", "message begins with It"),
        ('<p id="whom">{{ ngettext("It runs %(n)s task", "%(n)s tasks", 2) }}</p>', "message begins with It"),
    ],
)
def test_faults_of_templates_are_found(source: str, rule: str) -> None:
    assert [fault.rule for fault in template_faults(source)] == [rule]


def test_only_comments_of_css_are_checked() -> None:
    source = ".told > * {}\n\n/* As\n told. */\n.nobody {}"
    assert [(fault.line, fault.rule) for fault in css_faults(source)] == [(4, "told")]


def test_plain_python_has_no_faults() -> None:
    source = '"""Return it.\n\nIn-memory."""\nprint("Item 3", f"{it} goes on", "Its id", "retold")  # one reason'
    assert list(python_faults(source)) == []


def test_sentences_end_at_full_stops_items_and_cells() -> None:
    text = "One: two.\nThree\nfour\n\n* five\n1. six\n| seven | eight |\n```sh\nmake run\n```\n"
    parts = [" ".join(part.split()) for part in sentences(text)]
    assert parts == ["One: two.", "Three four", "five", "six", "seven", "eight"]
