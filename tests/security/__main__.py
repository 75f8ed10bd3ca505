"""Take out each security control and verify that its test fails: `make mutate-security`.

`python tests/security [word…]` tests the controls whose name contains one of the words. A control is a `Mutant` of a
`mutants_*.py` beside this file.
"""

import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from mutation import Mutant, main  # noqa: E402


def collect_mutants() -> list[Mutant]:
    modules = sorted(HERE.glob("mutants_*.py"))
    return [mutant for module in modules for mutant in import_module(module.stem).MUTANTS]


if __name__ == "__main__":
    sys.exit(main(collect_mutants(), sys.argv[1:]))
