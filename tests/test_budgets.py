"""Budgets of every page: statements, length and assets, without requests to other hosts."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count, product

import pytest
from browsers import PEOPLE, Browser, create_app_with_people, sign_in_browser
from budget import MAX_BYTES, measure_cost
from factories import create_attempt, create_closed_session, create_consumer, create_run, create_session
from flask import Flask

import tasks
from admin import audit_log
from admin.auth.identity import ROLES
from admin.operations.tokens import create_token
from config import ROOT, settings
from engine.broker.messages import Requester
from engine.control import bulk
from engine.control.queues import pause_queue
from engine.database import database
from engine.history import error_groups, run_counts
from engine.history.writer import flush_events
from engine.models import Attempt, Consumer, ErrorGroup, LogLine, Run, Tick, now
from engine.monitor import alerts
from engine.monitor.alerts import Signal
from engine.queues.crontab import crontab
from engine.search.query_plan import RunQuery
from engine.search.run_search import all_matching
from models import BrowserSession, Operator, ReadingSession, SavedView, Token

#: All CSS and JavaScript together, before compression.
MAX_STATIC_BYTES = 60_000

#: Responses that are files. They grow with their content.
FILES = {"runs_csv", "runs_json", "run_raw", "run_log", "dead_message_raw", "audit_csv"}

#: Pages that need a query string beside the argument of their URL.
QUERIES = {
    "overview": ("", "?hours=1", "?hours=168"),
    "sessions": ("", "?state=active", "?state=closed", "?reader=reader"),
    "errors": ("", "?state=all", "?q=refused&task=get_cleanup_statistics"),
    "audit": ("", "?source=web&actor=vera", "?action=operators.role&from=2026-01-01T10:00"),
    "runs": ("", "?q=state:failed", "?q=ended:24h", "?q=task:get_cleanup_statistics+state:failed", "?q=refused"),
    "bulk_new": ("?verb=retry&q=state:failed",),
}

ERROR = "ConnectionError: images.internal:8080 refused the connection for passage 4 of 81"
TRACEBACK = 'Traceback (most recent call last):\n  File "/app/tasks.py", line 7, in draw\n    draw()\n' * 20 + ERROR

ANN = Requester("operator", "ann@example.org")

numbers = count(1)


class FilledConsole:
    """A console with full lists. Each `fill` adds more."""

    def __init__(self) -> None:
        self.browser = sign_in_browser(create_app_with_people(), "admin")
        self.run = self.dead_run = ""
        self.bulk = 0

    def fill(self, rows: int) -> None:
        with database.atomic():
            for number in range(rows):
                self.session(number)
                self.ended_run(number)
                self.tick(number)
                self.people(number)
                create_consumer(("heavy", "normal", "light")[number % 3], running=[self.job() for _ in range(2)])
                signal = Signal("failing", f"task_{next(numbers)}", 31.4, {"failed": 11, "finished": 35})
                alerts.open_alert(signal, now(), ["webhook", "email"], now())
        for _ in range(rows):
            tasks.light.storage.enqueue(b"what cannot be read")
            tasks.get_cleanup_statistics(hours=3)
        self.dead_run = create_dead_run()
        flush_events(tasks.light)
        failed = all_matching(RunQuery(states=frozenset({"failed"})))
        for _ in range(rows // 2):
            shown = bulk.preflight(failed, 1).fingerprint
            self.bulk = bulk.create("retry", failed, shown, by=ANN, search="state:failed").id

    def session(self, number: int) -> None:
        create_session(minutes_ago=5 + number * 9)
        create_closed_session(ended_at=now() - timedelta(minutes=number * 7), start_position=number % 3)

    def ended_run(self, number: int) -> None:
        ended_at = now() - timedelta(minutes=number * 11)
        state = ("succeeded", "failed", "dead", "cancelled")[number % 4]
        run = create_run(
            ("get_cleanup_statistics", "close_abandoned_sessions")[number % 2],
            state,
            enqueued_at=ended_at,
            started_at=ended_at,
            ended_at=ended_at,
            wait_ms=4.0 * number,
            run_ms=900.0,
            attempts=2,
            error=ERROR if state == "failed" else None,
            result={"plates": list(range(40))} if state == "succeeded" else None,
            parent_id=self.run or None,
        )
        for position, outcome in enumerate(("failed", state), 1):
            create_attempt(run, position, outcome, ended_at=ended_at, error=ERROR, traceback=TRACEBACK)
        line = {
            "run_id": run.id,
            "delivery": 1,
            "at": ended_at,
            "level": "INFO",
            "logger": "huey",
            "text": "a word " * 20,
        }
        LogLine.insert_many([{**line, "number": position} for position in range(20)]).execute()
        for key in run_counts.counter_keys(run):
            run_counts.increment({key: 12_345})
        if state == "failed":
            self.error_group(run)
        self.run = self.run or run.id

    def error_group(self, run: Run) -> None:
        kind = error_groups.fingerprint(f"{run.task}_{next(numbers)}", ERROR, TRACEBACK)
        failures = error_groups.FailureBatch()
        failures.add(kind, error_groups.Failure(str(run.ended_at), "v1", ERROR))
        failures.save()
        for model, key in ((Run, Run.id), (Attempt, Attempt.run_id)):
            model.update(error_group=kind.id).where(key == run.id).execute()
        run_counts.increment({run_counts.counter_key(run, run.ended_at, run_counts.ERROR_PREFIX + kind.id): 3})

    def tick(self, number: int) -> None:
        due_at = now() - timedelta(minutes=30 * number + next(numbers) / 1000)
        state = ("enqueued", "missed", "paused")[number % 3]
        Tick.create(task="close_abandoned_sessions", due_at=due_at, queue="light", state=state, seen_at=due_at)

    def people(self, number: int) -> None:
        serial = next(numbers)
        create_token(f"a program {serial}", ROLES[number % 3], days=30)
        Operator.create(email=f"{serial}@example.org", role="viewer", password_hash="x")
        admin = Operator.get(Operator.role == "admin")
        BrowserSession.create(
            digest=f"{serial:064}", operator=admin, address="203.0.113.7", agent="Mozilla/5.0 (X11; Linux)"
        )
        facts = {"before": {"role": "viewer"}, "after": {"role": "admin", "why": "a word " * 20}}
        audit_log.append_entries(
            actor_kind="operator", actor="vera", source="web", action="operators.role", target="x", **facts
        )

    def job(self) -> dict[str, str]:
        return {"worker": f"Worker-{next(numbers)}", "run_id": "x", "task": "process_book", "since": now().isoformat()}

    def page_urls(self) -> Iterator[str]:
        """Return the URL of every page of the program."""
        values = {
            "run_id": self.run,
            "worker_id": str(Consumer.select().first().id),
            "session_id": str(ReadingSession.select().where(ReadingSession.ended_at.is_null()).first().id),
            "bulk_id": str(self.bulk),
            "task": "close_abandoned_sessions",
            "operator_id": "1",
            "token_id": str(Token.select().first().id),
            "entry_id": "1",
            "group_id": ErrorGroup.select().first().id,
        }
        for rule in self.browser.application.url_map.iter_rules():
            blueprint, _, page = rule.endpoint.partition(".")
            if blueprint != "pages" or "GET" not in (rule.methods or ()) or page in FILES:
                continue
            name = "light" if page.startswith("queue") else "get_cleanup_statistics"
            own = {"run_id": self.dead_run} if page.startswith("dead") else {}
            path = re.sub(
                r"<(?:\w+:)?(\w+)>",
                lambda match, own=own, name=name: {"name": name, **values, **own}[match[1]],
                rule.rule,
            )
            yield from (path + query for query in QUERIES.get(page, ("",)))


def create_dead_run() -> str:
    """Return the id of a run that killed its workers."""
    run_id = str(tasks.cleanup_old_task_results().id)
    for number in range(settings.max_deliveries):
        while taken := tasks.light.storage.deliveries.settle_and_claim(f"c{number}", "w", False, "{}").claimed:
            if taken.run_id == run_id:
                break
        tasks.light.storage.deliveries.release(f"c{number}", "w", "the worker died", settings.max_deliveries)
    return run_id


@contextmanager
def many_tasks(number: int) -> Iterator[None]:
    """Add this many tasks, each with a schedule."""

    def forgotten() -> None:
        """Do nothing."""

    schedules = (crontab(minute="1"), lambda at: False)
    classes = [
        tasks.light.periodic_task(schedules[position % 2], name=f"forgotten_{position}")(forgotten).task_class
        for position in range(number)
    ]
    try:
        yield
    finally:
        for task_class in classes:
            tasks.light._registry.unregister(task_class)


@pytest.fixture
def console(each_database: str) -> FilledConsole:
    house = FilledConsole()
    house.fill(34)
    return house


def test_page_statements_do_not_grow_with_the_rows(console: FilledConsole) -> None:
    addresses = list(console.page_urls())
    assert len(addresses) > 20
    before = measure_costs(console.browser, addresses)
    console.fill(40)
    with many_tasks(30):
        after = measure_costs(console.browser, addresses)
    assert after == before


def measure_costs(browser: Browser, addresses: list[str]) -> dict[str, int]:
    """Count the statements of each page. Report all pages over budget at once."""
    costs, beyond = {}, []
    for address in addresses:
        try:
            costs[address] = measure_cost(browser, address)
        except AssertionError as error:
            beyond.append(f"{address}: {str(error)[:2000]}")
    assert not beyond, "\n\n".join(beyond)
    return costs


def test_overview_with_every_problem_stays_within_its_budget(sqlite_database: None) -> None:
    house = FilledConsole()
    house.fill(60)
    Consumer.update(beat_at=now() - timedelta(minutes=2)).where(Consumer.queue != "light").execute()
    for name, queue in tasks.queues.items():
        pause_queue(queue, by=ANN, reason="why " * 100)
        pause_queue(queue, task=f"a_task_of_{name}", by=ANN, reason="why " * 100)
    minutes = [int(now().timestamp()) - 60 * minute for minute in range(60)]
    ended = product(minutes, ["a_task"], ["light"], ["succeeded", "failed", "dead", "cancelled"], [0])
    run_counts.increment(dict.fromkeys(ended, 12_345))
    house.browser.set_cookie("zone", "America/Argentina/Buenos_Aires")
    for language, query in product(("en", "ru"), QUERIES["overview"]):
        house.browser.set_cookie("language", language)
        html = house.browser.get(f"/{query}").text
        assert html.count('class="notice"') >= 9
        measure_cost(house.browser, f"/{query}")


def test_long_texts_keep_lists_within_their_budget(operator: Browser) -> None:
    reader, book = "читатель" * 12 + "@example.org", ("Война и мир " * 30, "Лев Толстой " * 20)
    values = {"error": "BadZipFile: " + "не архив " * 900, "kwargs": {"title": 'Я<&"' * 300}, "asked_by": reader}
    for number in range(30):
        create_session(f"{number}{reader}", book, minutes_ago=150)
        create_closed_session(f"{number}{reader}c", book)
        create_run("process_book_" * 4, "failed", asked_by_kind="operator", **values)
    for number in range(12):
        SavedView.create(
            name=f"{number} " + "вид" * 19, search=f"state:failed {number} " + "слово" * 9, owner=PEOPLE["operator"]
        )
    operator.set_cookie("zone", "America/Argentina/Buenos_Aires")
    for language in ("en", "ru"):
        operator.set_cookie("language", language)
        for address in ("/", "/runs", "/runs?q=state:failed", "/bulk/new?verb=retry&q=state:failed", "/sessions",
                        "/sessions?state=closed", "/sessions?state=abandoned", "/sessions/cleanup"):  # fmt: skip
            measure_cost(operator, address)
    book_link, reader_link = re.findall(r'<a href="(/sessions[^"]+)">(?:Война|\d+чит)', operator.get("/sessions").text)[
        :2
    ]
    for link in (book_link, reader_link):
        assert "читатель" in operator.get(link.replace("&amp;", "&")).text


@pytest.fixture
def full_console(sqlite_database: None) -> FilledConsole:
    house = FilledConsole()
    house.fill(34)
    return house


def test_pages_load_nothing_from_other_hosts(full_console: FilledConsole) -> None:
    for address in [*full_console.page_urls(), "/api/docs"]:
        answer = full_console.browser.get(address)
        if answer.status_code == 404 and address == "/api/docs":
            continue
        loaded = re.findall(r'(?:src|srcset|action|poster|<link[^>]* href)="([^"]*)"', answer.text)
        assert [url for url in loaded if re.match(r"[a-z]+:|//", url)] == [], address
        policy = answer.headers["Content-Security-Policy"]
        assert not re.search(r"https?:|\*|data:text", policy), address


def test_static_files_are_small_and_load_nothing_from_other_hosts() -> None:
    files = [file for file in (ROOT / "static").rglob("*") if file.suffix in (".css", ".js")]
    assert {"app.css", "live.js"} <= {file.name for file in files}
    assert sum(file.stat().st_size for file in files) <= MAX_STATIC_BYTES
    for file in files:
        assert not re.search(r"""url\(\s*['"]?(https?:|//)|@import|["'`](https?:)?//\w""", file.read_text()), file.name


# --- the budget check ----------------------------------------------------------------------------------------


@pytest.mark.adds_views
def test_page_over_budget_is_reported(app: Flask) -> None:
    """Verify that the tests above can fail."""

    @app.get("/greedy")
    def greedy() -> str:
        return "".join(str(Run.select().count()) for _ in range(9))

    @app.get("/long")
    def long() -> str:
        return "x" * (MAX_BYTES + 1)

    browser: Browser = sign_in_browser(app, "viewer")
    for address in ("/greedy", "/long"):
        with pytest.raises(AssertionError):
            measure_cost(browser, address)
