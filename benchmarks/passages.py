"""Quality and speed of the passages worth a picture: `make bench-passages`, or with TEXT="novel.txt …".

Recall and precision are those of the sentences that were labelled by hand. The best hundred passages of five novels
were judged by hand once. A text gives the speed: blocks are divided by line breaks, and its language is in its letters.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from reading.passages import find_passages  # noqa: E402

LANGUAGES = ("ru", "en")


def main(texts: Sequence[str]) -> None:
    for language in LANGUAGES:
        labels = load("labels", language)
        for half, held_out in (("development", False), ("held out", True)):
            show_labels(f"{language}, {half}", [label for label in labels if label["held_out"] == held_out], language)
        show_judged(language)
    for text in texts:
        show_speed(Path(text))


def load(name: str, language: str) -> list[dict[str, Any]]:
    return json.loads((ROOT / f"tests/books/{name}_{language}.json").read_text())


def show_labels(title: str, labels: list[dict[str, Any]], language: str) -> None:
    found = [label for label in labels if find_passages(f"I\n\n{label['sentence']}", language)]
    good = sum(label["worth_a_picture"] for label in found)
    recall = good / sum(label["worth_a_picture"] for label in labels)
    speech = sum(label["form"] != "narration" for label in found)
    print(f"{title}: recall {recall:.2f}, precision {good / len(found):.2f}, from speech and headings {speech}")


def show_judged(language: str) -> None:
    judged = load("judged", language)
    good = sum(passage["worth_a_picture"] for passage in judged)
    found = sum(bool(find_passages(f"I\n\n{passage['content']}", language)) for passage in judged)
    print(f"{language}, judged passages: precision {good / len(judged):.2f}, {found} of {len(judged)} are still found")


def show_speed(path: Path) -> None:
    text = path.read_text()
    language = "ru" if sum("а" <= letter <= "я" for letter in text) > len(text) / 3 else "en"
    start = time.process_time()
    count = len(find_passages(text, language))
    seconds = time.process_time() - start
    size = len(text.encode()) / 1e6
    print(f"{path.name}: {count} passages, {size:.1f} MB in {seconds:.2f} s of CPU, {size / seconds:.2f} MB/s")


if __name__ == "__main__":
    main(sys.argv[1:])
