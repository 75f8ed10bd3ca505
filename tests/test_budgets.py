"""What pages may cost: statements, length, files beside them, and nothing from another host. Every page is walked."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count, product

import pytest
from browsers import PEOPLE, Browser, app_with_people, signed_in_browser
from budget import MOST_BYTES, cost_of
from flask import Flask
from library import attempt, closed, consumer_of, run, session

import tasks
from admin import audit_log
from admin.auth.identity import ROLES
from admin.operations.tokens import create_token
from config import ROOT, settings
from engine.broker.messages import Requester
from engine.control import bulk
from engine.control.queues import pause
from engine.database import database
from engine.history import error_groups, run_counts
from engine.history.writer import write_down
from engine.models import Attempt, ErrorGroup, LogLine, Run, Tick, WorkerProcess, now
from engine.monitor import alerts
from engine.monitor.alerts import Signal
from engine.queues.crontab import crontab
from engine.search.query_plan import Lookup
from engine.search.run_search import everything
from models import Operator, ReadingSession, SavedView, SignIn, Token

#: All CSS and JavaScript together, before compression.
MOST_BESIDE = 60_000

#: Answers that are files, and grow with what they hold.
FILES = {"runs_csv", "runs_json", "run_raw", "run_log", "dead_message_raw", "audit_csv"}

#: Pages that want more in their address than the argument that it names.
QUERIES = {
    "overview": ("", "?hours=1", "?hours=168"),
    "sessions": ("", "?state=active", "?state=closed", "?reader=reader"),
    "errors": ("", "?state=all", "?q=refused&task=get_cleanup_statistics"),
    "audit": ("", "?source=web&actor=vera", "?action=operators.role&from=2026-01-01T10:00"),
    "runs": ("", "?q=state:failed", "?q=ended:24h", "?q=task:get_cleanup_statistics+state:failed", "?q=refused"),
    "bulk_new": ("?verb=retry&q=state:failed",),
}

ERROR = "ConnectionError: images.internal:8080 refused the connection, which was asked for by passage 4 of 81"
TRACEBACK = 'Traceback (most recent call last):\n  File "/app/tasks.py", line 7, in draw\n    draw()\n' * 20 + ERROR

ANN = Requester("operator", "ann@example.org")

numbers = count(1)


class House:
    """A console with so much in it that lists are full; `fill` again and there is more."""

    def __init__(self) -> None:
        self.browser = signed_in_browser(app_with_people(), "admin")
        self.run = self.dead_run = ""
        self.bulk = 0

    def fill(self, rows: int) -> None:
        with database.atomic():
            for number in range(rows):
                self.session(number)
                self.ended_run(number)
                self.tick(number)
                self.people(number)
                consumer_of(("heavy", "normal", "light")[number % 3], running=[self.job() for _ in range(2)])
                told = Signal("failing", f"task_{next(numbers)}", 31.4, {"failed": 11, "finished": 35})
                alerts.fire(told, now(), ["webhook", "email"], now())
        for _ in range(rows):
            tasks.light.storage.enqueue(b"what cannot be read")
            tasks.get_cleanup_statistics(hours=3)
        self.dead_run = die()
        write_down(tasks.light)
        failed = everything(Lookup(states=frozenset({"failed"})))
        for _ in range(rows // 2):
            shown = bulk.preflight(failed, 1).fingerprint
            self.bulk = bulk.begin("retry", failed, shown, by=ANN, search="state:failed").id

    def session(self, number: int) -> None:
        session(minutes_ago=5 + number * 9)
        closed(ended_at=now() - timedelta(minutes=number * 7), start_position=number % 3)

    def ended_run(self, number: int) -> None:
        ended_at = now() - timedelta(minutes=number * 11)
        state = ("succeeded", "failed", "dead", "cancelled")[number % 4]
        one = run(
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
        for place, outcome in enumerate(("failed", state), 1):
            attempt(one, place, outcome, ended_at=ended_at, error=ERROR, traceback=TRACEBACK)
        line = {
            "run_id": one.id,
            "delivery": 1,
            "at": ended_at,
            "level": "INFO",
            "logger": "huey",
            "text": "a word " * 20,
        }
        LogLine.insert_many([{**line, "number": place} for place in range(20)]).execute()
        for key in run_counts.keys_of(one):
            run_counts.add({key: 12_345})
        if state == "failed":
            self.error_group(one)
        self.run = self.run or one.id

    def error_group(self, one: Run) -> None:
        kind = error_groups.kind_of(f"{one.task}_{next(numbers)}", ERROR, TRACEBACK)
        failures = error_groups.Gathered()
        failures.add(kind, error_groups.Failure(str(one.ended_at), "v1", ERROR))
        failures.save()
        for model, key in ((Run, Run.id), (Attempt, Attempt.run_id)):
            model.update(error_group=kind.id).where(key == one.id).execute()
        run_counts.add({run_counts.key_of(one, one.ended_at, run_counts.ERROR + kind.id): 3})

    def tick(self, number: int) -> None:
        due_at = now() - timedelta(minutes=30 * number + next(numbers) / 1000)
        state = ("enqueued", "missed", "paused")[number % 3]
        Tick.create(task="close_abandoned_sessions", due_at=due_at, queue="light", state=state, seen_at=due_at)

    def people(self, number: int) -> None:
        place = next(numbers)
        create_token(f"a program {place}", ROLES[number % 3], days=30)
        Operator.create(email=f"{place}@example.org", role="viewer", password_hash="x")
        admin = Operator.get(Operator.role == "admin")
        SignIn.create(digest=f"{place:064}", operator=admin, address="203.0.113.7", agent="Mozilla/5.0 (X11; Linux)")
        facts = {"before": {"role": "viewer"}, "after": {"role": "admin", "why": "a word " * 20}}
        audit_log.append(
            actor_kind="operator", actor="vera", source="web", action="operators.role", target="x", **facts
        )

    def job(self) -> dict[str, str]:
        return {"worker": f"Worker-{next(numbers)}", "run_id": "x", "task": "process_book", "since": now().isoformat()}

    def addresses(self) -> Iterator[str]:
        """Of every page that the program has."""
        values = {
            "run_id": self.run,
            "worker_id": str(WorkerProcess.select().first().id),
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
                lambda found, own=own, name=name: {"name": name, **values, **own}[found[1]],
                rule.rule,
            )
            yield from (path + query for query in QUERIES.get(page, ("",)))


def die() -> str:
    """The id of a run that took down its workers."""
    run_id = str(tasks.cleanup_old_task_results().id)
    for number in range(settings.max_deliveries):
        while taken := tasks.light.storage.deliveries.settle_and_claim(f"c{number}", "w", False, "{}").claimed:
            if taken.run_id == run_id:
                break
        tasks.light.storage.deliveries.release(f"c{number}", "w", "the worker died", settings.max_deliveries)
    return run_id


@contextmanager
def many_tasks(number: int) -> Iterator[None]:
    """So many more, each with a schedule."""

    def forgotten() -> None:
        """Nothing."""

    schedules = (crontab(minute="1"), lambda at: False)
    classes = [
        tasks.light.periodic_task(schedules[place % 2], name=f"forgotten_{place}")(forgotten).task_class
        for place in range(number)
    ]
    try:
        yield
    finally:
        for one in classes:
            tasks.light._registry.unregister(one)


@pytest.fixture
def house(each_database: str) -> House:
    house = House()
    house.fill(34)
    return house


def test_no_page_needs_more_statements_the_more_there_is(house: House) -> None:
    addresses = list(house.addresses())
    assert len(addresses) > 20
    before = costs(house.browser, addresses)
    house.fill(40)
    with many_tasks(30):
        after = costs(house.browser, addresses)
    assert after == before


def costs(browser: Browser, addresses: list[str]) -> dict[str, int]:
    """The statements of each page. All that are beyond their budget are named at once."""
    found, beyond = {}, []
    for address in addresses:
        try:
            found[address] = cost_of(browser, address)
        except AssertionError as error:
            beyond.append(f"{address}: {str(error)[:2000]}")
    assert not beyond, "\n\n".join(beyond)
    return found


def test_in_trouble_of_every_kind_the_overview_stays_within_its_bounds(library: None) -> None:
    house = House()
    house.fill(60)
    WorkerProcess.update(beat_at=now() - timedelta(minutes=2)).where(WorkerProcess.queue != "light").execute()
    for name, queue in tasks.queues.items():
        pause(queue, by=ANN, reason="why " * 100)
        pause(queue, task=f"a_task_of_{name}", by=ANN, reason="why " * 100)
    minutes = [int(now().timestamp()) - 60 * minute for minute in range(60)]
    ended = product(minutes, ["a_task"], ["light"], ["succeeded", "failed", "dead", "cancelled"], [0])
    run_counts.add(dict.fromkeys(ended, 12_345))
    house.browser.set_cookie("zone", "America/Argentina/Buenos_Aires")
    for language, query in product(("en", "ru"), QUERIES["overview"]):
        house.browser.set_cookie("language", language)
        html = house.browser.get(f"/{query}").text
        assert html.count('class="notice"') >= 9
        cost_of(house.browser, f"/{query}")


def test_long_texts_make_no_list_heavy(operator: Browser) -> None:
    reader, book = "читатель" * 12 + "@example.org", ("Война и мир " * 30, "Лев Толстой " * 20)
    values = {"error": "BadZipFile: " + "не архив " * 900, "kwargs": {"title": 'Я<&"' * 300}, "asked_by": reader}
    for number in range(30):
        session(f"{number}{reader}", book, minutes_ago=150)
        closed(f"{number}{reader}c", book)
        run("process_book_" * 4, "failed", asked_by_kind="operator", **values)
    for number in range(12):
        SavedView.create(
            name=f"{number} " + "вид" * 19, search=f"state:failed {number} " + "слово" * 9, owner=PEOPLE["operator"]
        )
    operator.set_cookie("zone", "America/Argentina/Buenos_Aires")
    for language in ("en", "ru"):
        operator.set_cookie("language", language)
        for address in ("/", "/runs", "/runs?q=state:failed", "/bulk/new?verb=retry&q=state:failed", "/sessions",
                        "/sessions?state=closed", "/sessions?state=abandoned", "/sessions/cleanup"):  # fmt: skip
            cost_of(operator, address)
    book_link, reader_link = re.findall(r'<a href="(/sessions[^"]+)">(?:Война|\d+чит)', operator.get("/sessions").text)[
        :2
    ]
    for link in (book_link, reader_link):
        assert "читатель" in operator.get(link.replace("&amp;", "&")).text


@pytest.fixture
def full_house(library: None) -> House:
    house = House()
    house.fill(34)
    return house


def test_no_page_asks_another_host_for_anything(full_house: House) -> None:
    for address in [*full_house.addresses(), "/api/docs"]:
        answer = full_house.browser.get(address)
        if answer.status_code == 404 and address == "/api/docs":
            continue
        loaded = re.findall(r'(?:src|srcset|action|poster|<link[^>]* href)="([^"]*)"', answer.text)
        assert [url for url in loaded if re.match(r"[a-z]+:|//", url)] == [], address
        policy = answer.headers["Content-Security-Policy"]
        assert not re.search(r"https?:|\*|data:text", policy), address


def test_styles_and_scripts_are_small_and_ask_no_other_host() -> None:
    files = [file for file in (ROOT / "static").rglob("*") if file.suffix in (".css", ".js")]
    assert {"app.css", "live.js"} <= {file.name for file in files}
    assert sum(file.stat().st_size for file in files) <= MOST_BESIDE
    for file in files:
        assert not re.search(r"""url\(\s*['"]?(https?:|//)|@import|["'`](https?:)?//\w""", file.read_text()), file.name


# --- the budget itself ---------------------------------------------------------------------------------------


@pytest.mark.adds_views
def test_a_page_beyond_its_budget_would_be_found(app: Flask) -> None:
    """What the tests above rely on."""

    @app.get("/greedy")
    def greedy() -> str:
        return "".join(str(Run.select().count()) for _ in range(9))

    @app.get("/long")
    def long() -> str:
        return "x" * (MOST_BYTES + 1)

    browser: Browser = signed_in_browser(app, "viewer")
    for address in ("/greedy", "/long"):
        with pytest.raises(AssertionError):
            cost_of(browser, address)
