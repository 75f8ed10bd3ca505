"""Log lines of a running attempt are stored with it, limited in size, and can be read during the run."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from waiting import wait_until

from engine.queues import log_capture
from engine.queues.log_capture import HEAD_LINES, TAIL_LINES, AttemptLog, capture_logs, current
from engine.text import MAX_LINE

logger = logging.getLogger("books.covers")


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def line_texts(log: AttemptLog) -> list[str]:
    return [line.text for line in (*log.head, *log.tail)]


def test_log_lines_from_info_are_captured_while_the_task_runs() -> None:
    logger.info("before")
    with capture_logs() as log:
        logger.debug("too fine")
        logger.info("Opening %s", "9f2c.epub")
        logging.getLogger("elsewhere").warning("Size is %d bytes", 0)
    logger.info("after")
    assert [(line.number, line.level, line.logger, line.text) for line in log.head] == [
        (1, "INFO", "books.covers", "Opening 9f2c.epub"),
        (2, "WARNING", "elsewhere", "Size is 0 bytes"),
    ]
    assert current() is None


def test_lines_below_the_program_log_level_are_not_captured(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with capture_logs() as log:
        logger.info("not at this LOG_LEVEL")
        logger.warning("this one")
    assert line_texts(log) == ["this one"]


def test_first_and_last_lines_are_kept_with_their_numbers() -> None:
    with capture_logs() as log:
        for number in range(1, 1001):
            logger.info("line %d", number)
    kept = [line.number for line in (*log.head, *log.tail)]
    assert kept == [*range(1, HEAD_LINES + 1), *range(1001 - TAIL_LINES, 1001)]
    assert log.pending()["left_out"] == [HEAD_LINES + 1, 1000 - TAIL_LINES]
    assert line_texts(log)[-1] == "line 1000"


def test_captured_lines_are_limited_in_bytes() -> None:
    with capture_logs() as log:
        for _ in range(200):
            logger.info("ж" * 3000)
    size = sum(len(text.encode()) for text in line_texts(log))
    assert 48 << 10 < size <= 64 << 10
    assert log.tail[-1].number == 200


def test_long_line_loses_its_middle() -> None:
    with capture_logs() as log:
        logger.info("begin" + "-" * 50_000 + "end")
    (text,) = line_texts(log)
    assert len(text) < MAX_LINE + 100
    assert text.startswith("begin-")
    assert text.endswith("-end")
    assert "cut: 50,008 bytes in all" in text


def test_traceback_stays_with_its_line_and_nul_is_replaced() -> None:
    with capture_logs() as log:
        try:
            raise ValueError("a\0b")
        except ValueError:
            logger.exception("Two\nlines")
    (text,) = line_texts(log)
    assert text.startswith("Two\nlines\nTraceback (most recent call last):")
    assert text.endswith("ValueError: a\N{REPLACEMENT CHARACTER}b")


def test_line_that_is_not_utf_8_is_escaped() -> None:
    with capture_logs() as log:
        # Not through the root logger, because pytest cannot handle such lines.
        log_capture.handler.handle(
            logging.LogRecord("caf\udce9", logging.INFO, "", 0, "opening caf\udce9.epub", (), None)
        )
    (line,) = log.head
    assert (line.logger, line.text) == ("caf\\udce9", "opening caf\\udce9.epub")


def test_message_that_does_not_fit_its_arguments_is_kept_unformatted() -> None:
    with capture_logs() as log:
        log_capture.handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "%d books", ("many",), None))
    assert line_texts(log) == ["%d books"]


# --- attribution ---------------------------------------------------------------------------------------------


def test_tasks_in_parallel_threads_capture_their_own_lines() -> None:
    together = threading.Barrier(2)

    def task(name: str) -> list[str]:
        with capture_logs() as log:
            together.wait(10)
            logger.info("%s begins", name)
            together.wait(10)
            logger.info("%s ends", name)
        return line_texts(log)

    with ThreadPoolExecutor(2) as workers:
        assert list(workers.map(task, ["a", "b"])) == [["a begins", "a ends"], ["b begins", "b ends"]]


def test_threads_and_coroutines_of_a_task_are_captured() -> None:
    async def fetch() -> None:
        await asyncio.to_thread(logger.info, "from a coroutine's thread")

    with capture_logs() as log, ThreadPoolExecutor(1) as pool:
        pool.submit(logger.info, "from a thread").result()
        asyncio.run(fetch())
    assert line_texts(log) == ["from a thread", "from a coroutine's thread"]


def test_nested_task_captures_its_own_lines() -> None:
    with capture_logs() as outer:
        with capture_logs() as inner:
            logger.info("inner")
        logger.info("outer")
    assert (line_texts(outer), line_texts(inner)) == (["outer"], ["inner"])


# --- live updates --------------------------------------------------------------------------------------------


def test_lines_are_sent_while_the_task_runs_and_the_rest_at_its_end() -> None:
    sent: list[dict[str, Any]] = []
    with capture_logs(sent.append) as log:
        for number in range(50):
            logger.info("line %d", number)
            log.set_progress(number, 50, "chapters")
        wait_until(lambda: log.sent == 50)
        logger.info("the last line")
    first, *_, last = (line for facts in sent for line in facts["lines"])
    assert (first[0], first[2:], last[4]) == (1, ["INFO", "books.covers", "line 0"], "line 49")
    assert sent[-1]["progress"] == [49.0, 50.0, "chapters"]
    assert len(sent) <= 2
    assert [line[4] for line in log.pending()["lines"]] == ["the last line"]
    assert "progress" not in log.pending()


def test_unsent_lines_are_sent_later() -> None:
    tries: list[dict[str, Any]] = []

    def send(facts: dict[str, Any]) -> None:
        tries.append(facts)
        if len(tries) == 1:
            raise ConnectionError("the broker is unavailable")

    with capture_logs(send) as log:
        logger.info("one")
        wait_until(lambda: tries)
        logger.info("two")
        wait_until(lambda: log.sent == 2)
    assert [[line[4] for line in facts["lines"]] for facts in tries] == [["one"], ["one", "two"]]
    assert log.pending() == {}


def test_ended_attempt_sends_nothing_more() -> None:
    sent: list[dict[str, Any]] = []
    with capture_logs(sent.append) as ended:
        logger.info("a quick one")
    with capture_logs(sent.append):
        logger.info("the next one")
        wait_until(lambda: sent)
    assert [line[4] for facts in sent for line in facts["lines"]] == ["the next one"]
    assert [line[4] for line in ended.pending()["lines"]] == ["a quick one"]


def test_progress_is_the_latest_value_and_storable() -> None:
    with capture_logs() as log:
        log.set_progress(1, None, "")
        log.set_progress(2, 38, "ch\0apters " * 100)
    done, total, text = log.pending()["progress"]
    assert (done, total, len(text)) == (2.0, 38.0, 200)
    assert "\0" not in text
