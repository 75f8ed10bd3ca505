"""Time and memory of reading books, beside ebooklib with BeautifulSoup: `make bench-books CORPUS=path`.

Both read each document to its text, title and number of words. Dewey also cuts chapters and counts letters.
Each file is read in a process of its own. Imports do not count. The peers are installed in an environment that is
removed at the end, or found with `--peers path/to/python`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
PEERS = ("EbookLib==0.20", "beautifulsoup4==4.15.0", "lxml==6.1.3")
TURNS, LONG_SECONDS = 5, 3
#: Goals: on each file above this size that both read, and over all of them.
COMPARED_ABOVE = 100_000
FASTER_EACH, FASTER_ALL = 2, 4

MEASURE = """
import json, resource, sys, time
{imports}
def idle_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = idle_mb()
start = time.process_time()
try:
    answer = read(sys.argv[1])
except Exception as error:
    answer = dict(error=getattr(error, "code", type(error).__name__))
print(json.dumps(dict(answer, cpu=time.process_time() - start, mb=idle_mb() - before)))
"""
OURS = """
from pathlib import Path
from reading.books.book import read_book
def read(path):
    book = read_book(Path(path))
    chapters = [chapter.characters for chapter in book.chapters()]
    return dict(chapters=len(chapters), characters=sum(chapters), kept=book.kept_share)
"""
THEIRS = """
import ebooklib, ebooklib.epub, bs4, lxml.html, warnings
warnings.filterwarnings("ignore")
def read(path):
    book = ebooklib.epub.read_epub(path)
    texts, words = [], 0
    for item in book.get_items_of_type(ebooklib.ITEM_DOCUMENT):
        soup = bs4.BeautifulSoup(item.get_content(), "lxml")
        for unread in soup(["script", "style"]):
            unread.decompose()
        title = soup.find(["h1", "h2", "h3", "h4", "h5", "h6"])
        texts.append((title and title.get_text(), soup.get_text("\\n")))
        words += len(texts[-1][1].split())
    return dict(chapters=len(texts), characters=sum(len(text) for _, text in texts), words=words)
"""

HEAD = ("file", "KB", "chapters", "characters", "kept", "CPU s", "MB", "peers: CPU s", "MB", "faster")
Answer = dict[str, float | str]


@contextmanager
def peers(given: str | None) -> Iterator[str]:
    """Give a Python with the peers."""
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="dewey-books-") as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
        yield python


def measure(python: str, imports: str, path: Path) -> Answer:
    """Return the turn with the least CPU time. A long one is not repeated."""
    turns = [run(python, imports, path)]
    while len(turns) < TURNS and float(turns[0]["cpu"]) < LONG_SECONDS:
        turns.append(run(python, imports, path))
    return min(turns, key=lambda turn: float(turn["cpu"]))


def run(python: str, imports: str, path: Path) -> Answer:
    done = subprocess.run(
        [python, "-c", MEASURE.format(imports=imports), str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    answer: Answer = json.loads(done.stdout)
    return answer


def row(path: Path, ours: Answer, theirs: Answer | None) -> list[str]:
    size = path.stat().st_size
    cells = [path.name, f"{size // 1024}"]
    if "error" in ours:
        cells += [str(ours["error"]), "", ""]
    else:
        cells += [f"{ours['chapters']}", f"{ours['characters']:,}", f"{ours['kept']:.3f}"]
    cells += [f"{ours['cpu']:.3f}", f"{ours['mb']:.0f}"]
    if theirs is None:
        return [*cells, "", "", ""]
    if "error" in theirs:
        return [*cells, str(theirs["error"]), "", ""]
    return [*cells, f"{theirs['cpu']:.3f}", f"{theirs['mb']:.0f}", f"{float(theirs['cpu']) / float(ours['cpu']):.1f} ×"]


def main(corpus: Path, python: str | None) -> int:
    """Print a row per file. Return 1 if a goal is missed."""
    rows, compared = [list(HEAD)], list[tuple[float, float]]()
    with peers(python) as their_python:
        for path in sorted(path for path in corpus.iterdir() if path.is_file()):
            ours = measure(sys.executable, OURS, path)
            theirs = measure(their_python, THEIRS, path) if path.suffix == ".epub" else None
            rows.append(row(path, ours, theirs))
            if theirs and not {"error"} & (theirs.keys() | ours.keys()) and path.stat().st_size > COMPARED_ABOVE:
                compared.append((float(ours["cpu"]), float(theirs["cpu"])))
            print(f"{path.name} measured", file=sys.stderr)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        print("  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]).rstrip())
    if not compared:
        return 0
    each = min(theirs / ours for ours, theirs in compared)
    total = sum(theirs for _, theirs in compared) / sum(ours for ours, _ in compared)
    print(f"{len(compared)} files above {COMPARED_ABOVE // 1000} KB that both read: {each:.1f} × at least", end="")
    print(f" (goal {FASTER_EACH} ×), {total:.1f} × over all (goal {FASTER_ALL} ×).")
    return int(each < FASTER_EACH or total < FASTER_ALL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--peers", help="a Python that has ebooklib, beautifulsoup4 and lxml")
    options = parser.parse_args()
    sys.exit(main(options.corpus, options.peers))
