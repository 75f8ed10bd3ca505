"""The Help page: terms, figures and troubleshooting."""

import re

import pytest
from browsers import Browser
from consumers import ROOT

from admin.pages.system.help import MEANINGS, TROUBLES
from engine.models import State


def test_every_run_state_is_explained() -> None:
    assert {str(state) for state in State} <= MEANINGS.keys()


@pytest.mark.parametrize("language", ["en", "ru"])
def test_explanations_have_anchors_in_each_language(operator: Browser, language: str) -> None:
    operator.set_cookie("language", language)
    html = operator.get("/help").text
    anchors = re.findall(r'\bid="([^"]+)"', html)
    assert {f"state-{name}" for name in MEANINGS} | {trouble.anchor for trouble in TROUBLES} <= set(anchors)
    assert len(anchors) == len(set(anchors))
    cyrillic = len(re.findall("[а-яё]", html.partition("<main")[2]))
    assert cyrillic > 3000 if language == "ru" else cyrillic == 0


def test_pages_and_commands_named_by_help_exist(operator: Browser) -> None:
    names = set(operator.application.cli.commands)
    for trouble in TROUBLES:
        for command in trouble.commands:
            assert command.split()[1] in names, command
    for link in re.findall(r'<a href="(/[^"#?]*)"', operator.get("/help").text):
        assert operator.get(link).status_code == 200, link


def test_attention_notice_links_to_its_help(operator: Browser) -> None:
    """The installation has no consumers."""
    assert 'href="/help#nothing-runs"' in operator.get("/").text


def test_links_into_the_help_have_a_target(operator: Browser) -> None:
    anchors = set(re.findall(r'\bid="([^"]+)"', operator.get("/help").text))
    texts = [template.read_text() for template in (ROOT / "templates").rglob("*.html")]
    linked = {topic for text in texts for topic in re.findall(r'parts\.help\("([^"]+)"', text)}
    noticed = re.findall(r'call notice\(.*, "([a-z-]+)"\) %}', (ROOT / "templates/system/_attention.html").read_text())
    assert {"nothing-runs", "dead-runs", "session-open"} <= linked | set(noticed) <= anchors
