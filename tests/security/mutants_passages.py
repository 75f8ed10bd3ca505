"""Controls of the search for passages. `python tests/security/mutants_passages.py [word…]` tests each."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mutation import Mutant, main

MUTANTS = [
    Mutant(
        "a block without line breaks is cut",
        "long_blocks",
        "reading/passages/blocks.py",
        'LINE = re.compile(r"[^\\n]+")',
    ),
]

if __name__ == "__main__":
    sys.exit(main(MUTANTS, sys.argv[1:]))
