"""Controls of the search for passages, each taken out."""

from mutation import Mutant

MUTANTS = [
    Mutant(
        "a block without line breaks is cut",
        "long_blocks",
        "reading/passages/blocks.py",
        'LINE = re.compile(r"[^\\n]+")',
    ),
]
