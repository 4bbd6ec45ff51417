"""For the official `script_validator`: is this result readable, do these two agree?

    pymw_validate FILE          exit 0: our worker program wrote it
    pymw_validate FILE FILE2    exit 0: they agree by the rule in their names

Exit 3 says that a file could not be read for now, so that it is tried again later.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from boincserver.errors import InvalidResult
from boincserver.validator import ResultFiles
from pymw.backends.boinc.judge import ComparisonFailed
from pymw.backends.boinc.rules import Rule
from pymw.backends.boinc.validator import OutcomeValidator
from pymw.volunteer import OUTCOMES

__all__ = ["main"]

AGREED, DIFFERENT, LATER, WRONG_CALL = 0, 1, 3, 2
_OF_FILE = re.compile(r"(?:_r\d+)?_\d+$")
"""What the official server appends to a result's name for its output files."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    paths = [Path(each) for each in (sys.argv[1:] if arguments is None else arguments)]
    if len(paths) not in (1, 2):
        sys.stderr.write("pymw_validate FILE [FILE2]: an output file of one result, or of two\n")
        return WRONG_CALL
    try:
        names = [_OF_FILE.sub("", path.name) for path in paths]
        if any(Rule.of(name).digest for name in names):
            sys.stderr.write(f"{paths[0]}: results that a function of the user's compares are not for this project\n")
            return DIFFERENT
        validator = OutcomeValidator()
        read = [
            validator.load(ResultFiles(name, {OUTCOMES: path}, {})) for name, path in zip(names, paths, strict=True)
        ]
        return AGREED if len(read) == 1 or validator.agree(*read) else DIFFERENT
    except (InvalidResult, ComparisonFailed) as error:
        sys.stderr.write(f"{error}\n")
        return DIFFERENT
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return LATER


if __name__ == "__main__":
    sys.exit(main())
