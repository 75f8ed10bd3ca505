"""The page that explains the words and the numbers, and what to do when something is wrong."""

import re

import pytest
from browsers import Browser
from consumers import ROOT

from admin.pages.system.help import MEANINGS, TROUBLES
from engine.models import State


def test_every_state_of_a_run_is_explained() -> None:
    assert {str(state) for state in State} <= MEANINGS.keys()


@pytest.mark.parametrize("language", ["en", "ru"])
def test_what_is_explained_can_be_linked_to_in_either_language(operator: Browser, language: str) -> None:
    operator.set_cookie("language", language)
    html = operator.get("/help").text
    anchors = re.findall(r'\bid="([^"]+)"', html)
    assert {f"state-{name}" for name in MEANINGS} | {one.anchor for one in TROUBLES} <= set(anchors)
    assert len(anchors) == len(set(anchors))
    cyrillic = len(re.findall("[а-яё]", html.partition("<main")[2]))
    assert cyrillic > 3000 if language == "ru" else cyrillic == 0


def test_every_page_and_command_that_help_names_exists(operator: Browser) -> None:
    names = set(operator.application.cli.commands)
    for trouble in TROUBLES:
        for command in trouble.commands:
            assert command.split()[1] in names, command
    for link in re.findall(r'<a href="(/[^"#?]*)"', operator.get("/help").text):
        assert operator.get(link).status_code == 200, link


def test_what_asks_for_attention_leads_to_its_answer(operator: Browser) -> None:
    """On a machine without consumers."""
    assert 'href="/help#nothing-runs"' in operator.get("/").text


def test_every_link_into_the_help_leads_to_something_there(operator: Browser) -> None:
    anchors = set(re.findall(r'\bid="([^"]+)"', operator.get("/help").text))
    texts = [one.read_text() for one in (ROOT / "templates").rglob("*.html")]
    linked = {topic for text in texts for topic in re.findall(r'parts\.help\("([^"]+)"', text)}
    noticed = re.findall(r'call notice\(.*, "([a-z-]+)"\) %}', (ROOT / "templates/system/_attention.html").read_text())
    assert {"nothing-runs", "dead-runs", "session-open"} <= linked | set(noticed) <= anchors
