"""Passages worth a picture: labelled sentences, judged passages, and properties of any chapter."""

import json
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reading.passages import Passage, find_passages
from reading.passages.scoring import compute_priority

FOLDER = Path(__file__).parent
LANGUAGES = ("ru", "en")

GARDEN = (
    "The old white house stood in a narrow green garden, between two tall dark elms and a low stone wall. "
    "Red roses hung over the broken gate, and pale smoke rose slowly from the brick chimney."
)
САД = (
    "Старый белый дом с зеленою крышей стоял в узком саду, между двумя темными елями и низкою каменною стеной. "
    "Над сломанною калиткой висели красные розы, и из кирпичной трубы тихо поднимался светлый дым."
)
SCENES = {"ru": САД, "en": GARDEN}


def load(name: str, language: str) -> list[dict[str, Any]]:
    return json.loads((FOLDER / f"{name}_{language}.json").read_text())


def find_in_chapter(block: str, language: str) -> list[Passage]:
    return find_passages(f"I\n\n{block}", language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_half_of_the_labelled_pictures_are_found(language: str) -> None:
    found = defaultdict(list)
    types = []
    for label in load("labels", language):
        if label["worth_a_picture"]:
            passages = find_in_chapter(label["sentence"], language)
            found[label["held_out"]].append(bool(passages))
            types += [passage.type == label["type"] for passage in passages]
    recall = {held_out: sum(hits) / len(hits) for held_out, hits in found.items()}
    assert recall[False] >= 0.6  # 0.66 ru, 0.71 en
    assert recall[True] >= 0.5
    assert sum(types) / len(types) >= {"ru": 0.9, "en": 0.5}[language]


@pytest.mark.parametrize("language", LANGUAGES)
def test_other_labelled_sentences_are_left_out(language: str) -> None:
    labels = [label for label in load("labels", language) if not label["worth_a_picture"]]
    found = [label for label in labels if find_in_chapter(label["sentence"], language)]
    assert [label for label in found if label["form"] != "narration"] == []
    assert len(found) <= len(labels) // 20


@pytest.mark.parametrize(("language", "precision"), [("ru", 0.75), ("en", 0.70)])
def test_judged_passages_are_still_found(language: str, precision: float) -> None:
    judged = load("judged", language)
    found = [passage for passage in judged if find_in_chapter(passage["content"], language)]
    good = [passage for passage in found if passage["worth_a_picture"]]
    assert len(good) >= precision * len(found)
    assert len(good) >= 0.95 * sum(passage["worth_a_picture"] for passage in judged)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_scene_is_one_passage(language: str) -> None:
    scene = SCENES[language]
    text = f"II\n\n{scene}"
    (passage,) = find_passages(text, language)
    assert passage.content == scene == text[passage.start : passage.end]
    assert passage.type == "location"
    assert passage.words == len(scene.split())
    assert 0.6 <= passage.confidence <= 1
    assert passage.priority == compute_priority("location", passage.confidence, len(scene))


@pytest.mark.parametrize(
    ("language", "kind", "block"),
    [
        ("ru", "character", "Это была худая старуха в черном платье и белом чепце, с седыми волосами и острым носом."),
        (
            "ru",
            "atmosphere",
            "Густой белый туман стоял над рекою, холодный ветер стих, и в темном небе блестели звезды.",
        ),
        ("en", "character", "He was a tall, thin man with a red beard, pale eyes, a torn black coat and muddy boots."),
        (
            "en",
            "atmosphere",
            "A cold grey mist hung in the air, the wind had fallen, and pale moonlight lay on the snow.",
        ),
    ],
)
def test_types(language: str, kind: str, block: str) -> None:
    (passage,) = find_in_chapter(f"{block} {block}", language)
    assert passage.type == kind


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "block",
    [
        pytest.param("-- {}", id="dash"),
        pytest.param("— {}", id="long dash"),
        pytest.param("– {}", id="short dash"),
        pytest.param("“{}”", id="curly quotes"),
        pytest.param("«{}»", id="angle quotes"),
        pytest.param('"{}"', id="straight quotes"),
        pytest.param("‘{}’", id="single quotes"),
        pytest.param("He said, “{}” and left.", id="speech inside"),
        pytest.param("Он сказал: «{}» и ушел.", id="Russian speech inside"),
        pytest.param("[1] {}", id="note"),
        pytest.param("* {}", id="starred note"),
        pytest.param("FIRST SAILOR. {}", id="play"),
    ],
)
def test_speech_and_notes_give_none(language: str, block: str) -> None:
    assert find_in_chapter(block.format(SCENES[language]), language) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_headings_give_none(language: str) -> None:
    scene = SCENES[language]
    assert find_passages(scene, language) == []
    assert find_passages(f"\n \n{scene}\n\n...", language) == []
    assert find_in_chapter(scene.upper(), language) == []
    assert find_in_chapter(f"A {scene.upper()}", language) == []


#: One sentence each, 63 characters in English and 62 in Russian.
SHORT = {
    "ru": "Старый белый дом стоял в зеленом саду у низкой каменной стены.",
    "en": "The old white house stood in the green garden by the dark wall.",
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "sentence",
    [
        pytest.param("{}?", id="question"),
        pytest.param("{}!", id="exclamation"),
        pytest.param("{}:", id="announcement"),
        pytest.param("{},", id="part"),
        pytest.param("и {}.", id="rest"),
        pytest.param("{} {{note}}.", id="brace"),
        pytest.param("{}, -- so.", id="dash"),
    ],
)
def test_sentences_that_address_a_listener_give_none(language: str, sentence: str) -> None:
    scene = f"{SHORT[language][:-1]}, {SHORT[language][:-1].lower()}"
    assert len(find_in_chapter(f"{scene}.", language)) == 1
    assert find_in_chapter(sentence.format(scene), language) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_passage_has_at_most_four_sentences(language: str) -> None:
    passages = find_in_chapter(" ".join([SHORT[language]] * 9), language)
    assert [passage.content.count(".") for passage in passages] == [4]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("length", "count"), [(99, 0), (100, 1), (600, 1), (601, 0)])
def test_length_of_a_passage(language: str, length: int, count: int) -> None:
    words = SHORT[language][:-1]
    clauses = ", ".join([words] * 10)[: length - 1].rstrip(", ")
    sentence = clauses + "е" * (length - 1 - len(clauses)) + "."
    assert len(sentence) == length
    assert len(find_in_chapter(sentence, language)) == count


@pytest.mark.parametrize("language", LANGUAGES)
def test_speech_beside_a_scene_leaves_the_scene(language: str) -> None:
    scene = SCENES[language]
    (passage,) = find_in_chapter(f"{scene} “Come in, my dear,” said he.", language)
    assert passage.content == scene


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_in_quotation_marks_are_no_speech(language: str) -> None:
    scene = SCENES[language].replace("дом ", "дом «Роза» ").replace("house ", "house “Rose” ")
    assert [passage.content for passage in find_in_chapter(scene, language)] == [scene]


@pytest.mark.parametrize("language", LANGUAGES)
def test_density(language: str) -> None:
    chapter = "\n\n".join(["I", *[SCENES[language]] * 100])
    words = len(chapter.split())
    assert len(find_passages(chapter, language)) == words * 3 // 1000


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_block_without_breaks_is_searched_to_its_end(language: str) -> None:
    dull = "Он подумал об этом. " * 2000 if language == "ru" else "He thought of it. " * 2000
    (passage,) = find_in_chapter(f"{dull}{SCENES[language]} {dull}", language)
    assert passage.content == SCENES[language]


def test_other_languages_give_none() -> None:
    assert find_passages(f"I\n\n{GARDEN}", "de") == find_passages(f"I\n\n{САД}", "") == []


def test_priority() -> None:
    assert compute_priority("atmosphere", 0.5, 100) == 45 + 10 + 15
    assert compute_priority("character", 1, 300) == 60 + 20 + 15
    assert compute_priority("character", 0.75, 400) == 60 + 15 + 13
    assert compute_priority("location", 0.6, 600) == 75 + 12 + 9
    assert compute_priority("location", 1, 100) == 100


def test_dictionaries_are_loaded_when_a_book_needs_them() -> None:
    program = (
        "import sys\n"
        "from reading.passages import find_passages\n"
        "names = ('razdel', 'pymorphy3', 'sentencex', 'simplemma')\n"
        "for language in ('de', 'ru', 'en'):\n"
        "    find_passages('I', language)\n"
        "    print(language, *(name for name in names if name in sys.modules))\n"
    )
    root = FOLDER.parents[1]
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert output.splitlines() == ["de", "ru razdel pymorphy3", "en razdel pymorphy3 sentencex simplemma"]


SENTENCES = {language: [label["sentence"] for label in load("labels", language)] for language in LANGUAGES}


def chapters(language: str) -> st.SearchStrategy[str]:
    """Build chapters of labelled sentences, speech and arbitrary text, in blocks of arbitrary length."""
    sentence = st.sampled_from(SENTENCES[language]) | st.text(max_size=40)
    block = st.lists(sentence, max_size=8).map(" ".join)
    return st.lists(block, max_size=12).flatmap(
        lambda blocks: st.sampled_from(["\n", "\n\n", "\n \n", "\r\n\r\n"]).map(lambda gap: gap.join(blocks))
    )


@given(data=st.data(), language=st.sampled_from(LANGUAGES))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_chapter(data: st.DataObject, language: str) -> None:
    text = data.draw(chapters(language))
    passages = find_passages(text, language)
    assert len(passages) <= max(1, 3 * len(text.split()) / 1000)
    for passage in passages:
        assert text[passage.start : passage.end] == passage.content == passage.content.strip()
        assert 100 <= len(passage.content) <= 600
        assert "\n" not in passage.content
        assert passage.words == len(passage.content.split())
        assert passage.type in ("location", "character", "atmosphere")
        assert 0.6 <= passage.confidence <= 1
        assert 0 <= passage.priority <= 100
    assert all(one.end <= other.start for one, other in pairwise(passages))
    assert passages == find_passages(text, language)
