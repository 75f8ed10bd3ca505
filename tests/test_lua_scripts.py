"""The Lua scripts of the broker: the library functions that they use, and the values that Python passes."""

import re

import pytest

from engine.broker.effects import PRIORITY_SECONDS
from engine.broker.redis.scripts import FOLDER, SCRIPTS, used_libraries

LIBRARIES = {path.stem: path.read_text() for path in (FOLDER / "lib").glob("*.lua")}
DEFINED = re.compile(r"^local (?:function )?(\w+(?:, \w+)*)", re.MULTILINE)


def defined_names(text: str) -> set[str]:
    return {name for names in DEFINED.findall(text) for name in names.split(", ") if name != "function"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_names_every_library_whose_functions_it_calls(script: str) -> None:
    text = (FOLDER / f"{script}.lua").read_text()
    sources = [LIBRARIES[library] for library in used_libraries(text)]
    available: set[str] = set()
    for source in [*sources, text]:
        available |= defined_names(source)
        functions = {
            name for library in LIBRARIES.values() for name in re.findall(r"^local function (\w+)", library, re.M)
        }
        code = re.sub(r"--.*|'[^'\n]*'", "", source)
        assert {name for name in functions if re.search(rf"\b{name}\(", code)} <= available


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_takes_a_library_that_it_does_not_need(script: str) -> None:
    """Each function costs every call of the script a microsecond."""
    text = (FOLDER / f"{script}.lua").read_text()
    libraries = used_libraries(text)
    for place, library in enumerate(libraries):
        later = "\n".join([*(LIBRARIES[name] for name in libraries[place + 1 :]), text])
        assert any(re.search(rf"\b{name}\b", later) for name in defined_names(LIBRARIES[library]) - {"prefix"}), library


def test_lua_and_python_agree_on_what_a_priority_is_worth() -> None:
    assert f"local PRIORITY_SECONDS = {PRIORITY_SECONDS}\n" in LIBRARIES["messages"]
