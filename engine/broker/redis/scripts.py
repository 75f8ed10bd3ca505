"""The Lua scripts in engine/broker/lua, one per file, so that each step is atomic.

The first line of a script names its libraries in order: `-- uses: common, messages`.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[1] / "lua"
USES = "-- uses: "


class Script(NamedTuple):
    source: str
    sha: str


def load(path: Path) -> Script:
    text = path.read_text()
    source = "".join([(FOLDER / "lib" / f"{library}.lua").read_text() for library in used_libraries(text)]) + text
    return Script(source, hashlib.sha1(source.encode()).hexdigest())


def used_libraries(text: str) -> list[str]:
    first_line = text.partition("\n")[0]
    return first_line.removeprefix(USES).split(", ") if first_line.startswith(USES) else []


SCRIPTS = {path.stem: load(path) for path in sorted(FOLDER.glob("*.lua"))}
