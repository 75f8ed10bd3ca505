"""The search box of the runs: its syntax, and the runs that it finds, on both databases."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from html import unescape
from itertools import count
from typing import Any

import pytest
from browsers import Browser
from databases import bound_to_library, create_postgresql
from factories import create_run, row_ids
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from admin.search import run_query
from admin.search.syntax import InvalidSearch, Term, format_terms, parse_search
from engine.models import Run, State, now
from engine.search import run_search
from engine.search.query_plan import RunQuery, TimeRange
from engine.search.run_search import all_matching, all_pages

AS_OF = datetime(2026, 11, 24, 12, 30, 40, tzinfo=UTC)


# --- syntax --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("zip  file", [Term("", ("zip",)), Term("", ("file",))]),
        ('"zip file"', [Term("", ("zip file",))]),
        ("state:failed,dead", [Term("state", ("failed", "dead"))]),
        ("-state:succeeded -zip", [Term("state", ("succeeded",), True), Term("", ("zip",), True)]),
        ('error:"a \\"b\\" c"', [Term("error", ('a "b" c',))]),
        ("args.user.plan:pro", [Term("args.user.plan", ("pro",))]),
        ("duration:>5s", [Term("duration", (">5s",))]),
        ("ended:2026-11-23T10:00..2026-11-23T11:00", [Term("ended", ("2026-11-23T10:00..2026-11-23T11:00",))]),
        ("ValueError: 12:30 a,b", [Term("", ("ValueError:",)), Term("", ("12:30",)), Term("", ("a,b",))]),
        ('"state:failed"', [Term("", ("state:failed",))]),
        ('task:"a,b"', [Term("task", ("a,b",))]),
    ],
)
def test_search_is_parsed_word_by_word(text: str, terms: list[Term]) -> None:
    assert parse_search(text) == terms
    assert parse_search(format_terms(terms)) == terms


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.sampled_from(' :-",\\az'), max_size=40))
def test_any_text_is_parsed_and_reproduced_or_rejected(app_context: None, text: str) -> None:
    try:
        terms = parse_search(text)
    except InvalidSearch:
        return
    assert parse_search(format_terms(terms)) == terms


@pytest.fixture(scope="module")
def app_context() -> Iterator[None]:
    """Return an app without a database, for the language of messages."""
    from app import create_app

    with create_app().app_context():
        yield


@pytest.mark.parametrize(
    ("text", "word", "message"),
    [
        ("zip foo:bar", "foo:bar", "unknown filter foo"),
        ("https://example.org", "https://example.org", "in quotes"),
        ("state:broken", "state:broken", "must be one of waiting, scheduled"),
        ("queue:fast", "queue:fast", "must be one of heavy, normal, light"),
        ("state:", "state:", "add a value"),
        ("state:failed,", "state:failed,", "add a value"),
        ("duration:5s", "duration:5s", "such as >5s"),
        ("waited:>soon", "waited:>soon", "such as >5s"),
        ("attempts:many", "attempts:many", "such as 3 or >1"),
        ("after:yesterday", "after:yesterday", "a time such as 24h"),
        ("after:99999999d", "after:99999999d", "a time such as 24h"),
        ("ended:1h..soon", "ended:1h..soon", "a time such as 24h"),
        ("id:8b6", "id:8b6", "four characters"),
        ("-id:8b6ed5c7", "-id:8b6ed5c7", "without a minus"),
        ('zip "not found', '"not', "add the closing quote"),
        ('task:"a"b', 'task:"a"b', "quotes must enclose"),
    ],
)
def test_search_error_names_its_word(operator: Browser, text: str, word: str, message: str) -> None:
    create_run(state="failed")
    html = operator.get("/runs", query_string={"q": text}).text
    shown = unescape(html.partition('id="trouble"')[2].partition("</p>")[0])
    assert message in shown
    assert word in shown
    assert row_ids(html) == []
    assert "Correct the search" in html
    body = operator.get("/runs.json", query_string={"q": text})
    assert (body.status_code, body.json["field"]) == (422, "q")
    assert message in body.json["detail"]


# --- runs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def named_runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return runs that differ in every searchable field, by a short name."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('search')}/library.db"
        else:
            url = stack.enter_context(create_postgresql(request.getfixturevalue("postgresql_url")))
        stack.enter_context(bound_to_library(url))
        yield create_runs()


def create_runs() -> dict[str, str]:
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    at = now()
    made = {
        "book": create_run(
            "process_book",
            "failed",
            queue="heavy",
            args=["9f2c"],
            kwargs={"again": True, "page": 24},
            error="BadZipFile: File is not a zip file",
            run_ms=90,
            wait_ms=90_000,
            attempts=3,
            worker="Worker-1 on app-1:77:ab",
            asked_by_kind="token",
            asked_by="uploader",
            enqueued_at=at - 2 * hour,
            ended_at=at - 5 * minute,
        ),
        "image": create_run(
            "generate_image",
            "retrying",
            queue="normal",
            kwargs={"title": 'A "quoted" Книга 100%', "n": 240},
            error="ConnectionError: Connection refused",
            attempts=1,
            run_ms=6000,
            wait_ms=5,
            worker="Worker-2 on app-2:78:cd",
            asked_by_kind="run",
            asked_by="x",
            enqueued_at=at - 3 * minute,
        ),
        "stats": create_run(
            "get_cleanup_statistics",
            "succeeded",
            kwargs={"hours": 24},
            attempts=1,
            run_ms=4.5,
            wait_ms=1,
            worker="Worker-1 on app-1:77:ab",
            asked_by_kind="operator",
            asked_by="anna@example.org",
            enqueued_at=at - 30 * hour,
            ended_at=at - 29 * hour,
        ),
        "placed": create_run(
            "get_cleanup_statistics",
            "waiting",
            args=[24],
            kwargs={},
            asked_by_kind="cli",
            asked_by="root",
            enqueued_at=at - 1 * minute,
        ),
        "cleanup": create_run(
            "close_abandoned_sessions",
            "cancelled",
            error="cancelled by anna@example.org",
            enqueued_at=at - 90 * hour,
            ended_at=at - 30 * minute,
        ),
    }
    made["child"] = create_run(
        "process_book",
        "dead",
        queue="heavy",
        parent_id=made["book"].id,
        asked_by_kind="code",
        error="the worker died",
        kwargs={"user": {"plan": "pro", "page": 9}},
        enqueued_at=at - 50 * hour,
        ended_at=at - 50 * hour,
    )
    return {run.id: name for name, run in made.items()}


SEARCHES = [
    ("state:failed", "book"),
    ("state:failed,dead", "book child"),
    ("-state:failed,dead,waiting", "image stats cleanup"),
    ("task:process_book", "book child"),
    ("task:process_*", "book child"),
    ("-task:process_*", "image stats placed cleanup"),
    ("task:process_book,generate_image state:failed,retrying", "book image"),
    ("queue:light", "stats placed cleanup"),
    ("-queue:light", "book image child"),
    ("queue:heavy task:generate_image", ""),
    ("queue:heavy state:dead", "child"),
    ("zip", "book"),
    ("ZIP", "book"),
    ('"not a zip"', "book"),
    ("zip refused", ""),
    ("-zip -process_book", "image stats placed cleanup"),
    ("cleanup_statistics", "stats placed"),
    ("100%", "image"),
    ("a_c", ""),
    ('"\\"quoted\\""', "image"),
    ("книга", "image"),
    ("9f2c", "book"),
    ("error:connection", "image"),
    ("error:process_book", ""),
    ("-error:zip", "image stats placed cleanup child"),
    ("args.hours:24", "stats placed"),
    ("args.page:24", "book"),
    ("args.page:2*", "book"),
    ("args.n:24", ""),
    ("args.again:true", "book"),
    ("args.user.plan:pro", "child"),
    ("args.title:A*100%", "image"),
    ("-args.hours:24 queue:light", "cleanup"),
    ("worker:worker-1", "book stats"),
    ("worker:app-2:78", "image"),
    ("-worker:worker-1 -state:waiting", "image cleanup child"),
    ("by:anna@example.org", "stats"),
    ("by:uploader,root", "book placed"),
    ("by:anna*", "stats"),
    ("by:schedule", "cleanup"),
    ("by:code,run", "image child"),
    ("-by:schedule,code", "book image stats placed"),
    ("by:uploader state:failed", "book"),
    ("by:uploader state:succeeded", ""),
    ("by:x", ""),
    ("duration:>5s", "image"),
    ("duration:<=90ms", "book stats"),
    ("-duration:>5s duration:>1ms", "book stats"),
    ("waited:>=1m", "book"),
    ("attempts:>1", "book"),
    ("attempts:1", "image stats"),
    ("after:1h", "image placed"),
    ("before:1h after:48h", "book stats"),
    ("before:48h", "cleanup child"),
    ("ended:1h", "cleanup book"),
    ("ended:1h state:failed", "book"),
    ("ended:1h task:process_book", "book"),
    ("ended:1h state:waiting", ""),
    ("ended:72h..1h", "stats child"),
    ("ended:1h before:24h", "cleanup"),
    ("state:failed -state:failed", ""),
    ("state:waiting task:get_cleanup_statistics by:root after:1h", "placed"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "names"), SEARCHES)
def test_search_finds_its_runs(
    named_runs: dict[str, str], text: str, names: str, app_context: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = run_query.build_query(parse_search(text), now())
    expected = set(names.split())
    for looked_at in (run_search.SCATTERED_SCAN_LIMIT, 1):
        monkeypatch.setattr(run_search, "SCAN_LIMIT", looked_at)
        monkeypatch.setattr(run_search, "SCATTERED_SCAN_LIMIT", looked_at)
        shown = [named_runs[run.id] for page in all_pages(query, 2) for run in page]
        assert sorted(shown) == sorted(expected)
    assert {named_runs[run_id] for run_id, *_ in all_matching(query).tuples()} == expected


def test_every_key_has_an_example_and_ids_are_searchable(named_runs: dict[str, str], app_context: None) -> None:
    by_name = {name: run_id for run_id, name in named_runs.items()}
    for text, expected in (
        (f"id:{by_name['book'][:8]}", {"book"}),
        (f"id:{by_name['book']} state:failed", {"book"}),
        (f"id:{by_name['book'][:8]} state:dead", set()),
        (f"parent:{by_name['book']}", {"child"}),
        (f"parent:{by_name['book']} after:1h", set()),
    ):
        query = run_query.build_query(parse_search(text), now())
        assert {named_runs[run.id] for page in all_pages(query, 1) for run in page} == expected
        assert {named_runs[run_id] for run_id, *_ in all_matching(query).tuples()} == expected
    for name, key in run_query.SEARCH_KEYS.items():
        assert key.example.startswith(f"{name}:")
        run_query.build_query(parse_search(key.example), AS_OF)
        assert str(key.help)


def test_relative_times_can_be_frozen(app_context: None) -> None:
    terms = parse_search("state:failed after:24h ended:1h ended:2d..1h before:30m")
    fixed = run_query.freeze_relative_times(terms, AS_OF)
    later = AS_OF + timedelta(days=3)
    query = run_query.build_query(terms, AS_OF)
    assert run_query.build_query(parse_search(format_terms(fixed)), later) == query
    assert fixed[-1] == Term("before", (AS_OF.isoformat(),))
    assert run_query.build_query(parse_search("ended:1h"), AS_OF).ended == TimeRange(
        datetime(2026, 11, 24, 11, 30, tzinfo=UTC)
    )


# --- pages ---------------------------------------------------------------------------------------------------

STATES = [str(state) for state in (State.SUCCEEDED, State.FAILED, State.DEAD, State.WAITING)]
LOOKUPS: dict[str, Callable[[], tuple[RunQuery, Callable[[Run], bool]]]] = {
    "all": lambda: (RunQuery(), lambda run: True),
    "one state": lambda: (RunQuery(states=frozenset({"failed"})), lambda run: run.state == "failed"),
    "states": lambda: (RunQuery(states=frozenset({"failed", "dead"})), lambda run: run.state in ("failed", "dead")),
    "task": lambda: (RunQuery(tasks=frozenset({"a"})), lambda run: run.task == "a"),
    "tasks and states": lambda: (
        RunQuery(tasks=frozenset({"a", "b"}), states=frozenset({"failed", "dead"})),
        lambda run: run.task in ("a", "b") and run.state in ("failed", "dead"),
    ),
    "queue": lambda: (RunQuery(queues=frozenset({"heavy"})), lambda run: run.queue == "heavy"),
    "people": lambda: (RunQuery(people=frozenset({"anna", "bob"})), lambda run: run.asked_by in ("anna", "bob")),
    "ended": lambda: (RunQuery(ended=TimeRange(AS_OF - timedelta(days=9))), lambda run: run.ended_at is not None),
    "a word": lambda: (run_query.build_query(parse_search("zip"), AS_OF), lambda run: "zip" in (run.error or "")),
    "a word in states": lambda: (
        run_query.build_query(parse_search("zip state:failed,dead"), AS_OF),
        lambda run: "zip" in (run.error or "") and run.state in ("failed", "dead"),
    ),
    "a word of tasks": lambda: (
        run_query.build_query(parse_search("zip task:a,b"), AS_OF),
        lambda run: "zip" in (run.error or "") and run.task in ("a", "b"),
    ),
    "parent": lambda: (RunQuery(parents=frozenset({"p"})), lambda run: run.parent_id == "p"),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_pages_neither_skip_repeat_nor_misorder_runs(
    each_database: str, name: str, app_context: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_search, "SCAN_LIMIT", 7)
    monkeypatch.setattr(run_search, "SCATTERED_SCAN_LIMIT", 7)
    for number in range(120):
        at = AS_OF - timedelta(seconds=number % 3)
        state = STATES[number * number % 4]
        create_run("abc"[number % 5 % 3], state, queue="heavy" if number % 7 else "light", enqueued_at=at,
            ended_at=None if state == "waiting" else at, error="zip" if number % 4 else None,
            asked_by_kind="operator" if number % 2 else "code", asked_by=["anna", "bob", "eve"][number % 3],
            parent_id="p" if number % 6 == 0 else None)  # fmt: skip
    query, holds = LOOKUPS[name]()
    people = ("operator", "token", "cli")
    expected = [run for run in Run.select() if holds(run) and (name != "people" or run.asked_by_kind in people)]
    newcomers = count(1)
    shown: list[Run] = []
    for page in all_pages(query, 4):
        assert len(page) <= 4
        shown += page
        create_run("a", "failed", queue="heavy", enqueued_at=AS_OF + timedelta(seconds=next(newcomers)), error="zip")
    in_order = [(getattr(run, query.at.name), run.id) for run in shown]
    assert in_order == sorted(in_order, reverse=True)
    assert len(shown) == len(expected)
    assert {run.id for run in shown} == {run.id for run in expected}


def test_unfinished_search_shows_its_progress_and_continues(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_search, "SCAN_LIMIT", 5)
    at = now()
    old = create_run("process_book", "failed", error="a needle", enqueued_at=at - timedelta(hours=20))
    for minutes in range(12):
        create_run(enqueued_at=at - timedelta(minutes=minutes))
    url, pages = "/runs?q=needle", 0
    while not row_ids(html := operator.get(url).text):
        assert "Searched runs back to" in html
        assert "No match so far." in html
        url = html.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
        pages += 1
    assert row_ids(html) == [old.id]
    assert pages == 2
    assert 'rel="next"' not in html


# --- plans ---------------------------------------------------------------------------------------------------


def test_state_counts_equal_the_rows_or_are_missing_without_an_index(each_database: str, app_context: None) -> None:
    for number in range(40):
        create_run("ab"[number % 2], STATES[number % 4], queue="heavy", ended_at=AS_OF, enqueued_at=AS_OF)
    expected: dict[str, Any] = dict.fromkeys(map(str, State), 0) | dict.fromkeys(STATES, 10)
    assert run_search.count_by_state(RunQuery()) == expected
    assert run_search.count_by_state(RunQuery(queues=frozenset({"heavy"}))) == expected
    assert run_search.count_by_state(RunQuery(states=frozenset({"dead"}))) == expected
    of_task = run_search.count_by_state(RunQuery(tasks=frozenset({"a"})))
    assert of_task == {**dict.fromkeys(expected, 0), "succeeded": 10, "dead": 10}
    light = run_search.count_by_state(RunQuery(tasks=frozenset({"a"}), queues=frozenset({"light"})))
    assert light == dict.fromkeys(expected, 0)
    heavy = run_search.count_by_state(RunQuery(tasks=frozenset({"a"}), queues=frozenset({"heavy"})))
    assert heavy == of_task
    assert run_search.count_by_state(RunQuery(ended=TimeRange(AS_OF))) == {**expected, "waiting": 0}
    for text in ("zip", "task:a waited:>1s", "queue:heavy attempts:1", "by:anna", "id:8b6e", "ended:1h task:a"):
        assert run_search.count_by_state(run_query.build_query(parse_search(text), AS_OF)) is None


@pytest.mark.usefixtures("app")
def test_terms_that_fit_a_field_are_moved_out_of_the_search_box(operator: Browser, app: Flask) -> None:
    with app.test_request_context("/runs?state=dead&q=state:failed task:process_book after:24h zip -queue:light"):
        from admin.search.run_filter import RunFilter

        run_filter = RunFilter()
        assert (run_filter.state, run_filter.task, run_filter.last, run_filter.q) == (
            "failed",
            "process_book",
            "24h",
            "zip -queue:light",
        )
        assert run_filter.url_with() == "/runs?state=failed&task=process_book&last=24h&q=zip+-queue:light"
        assert run_filter.text == "state:failed task:process_book after:24h zip -queue:light"
        assert format_terms(parse_search(run_filter.text)) == run_filter.text
