"""What the exit code of `nnspec` says, and the two ways a command ends early.

0 all is well, 1 the spec is wrong, 2 the command line is wrong, 3 a run failed. Besides, as other programs
have it: 70 an error of nnspec's own, 130 interrupted from the keyboard.
"""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error

OK = 0
SPEC_WRONG = 1
USAGE = 2
RUN_FAILED = 3
INTERNAL = 70
INTERRUPTED = 130


class UsageError(Exception):
    """What was asked for is not there, or the command line is wrong: carries the diagnostic that says how."""

    def __init__(self, error: Error) -> None:
        self.error = error
        super().__init__(str(error.message))


class Stop(Exception):
    """Ends a command whose diagnostics are printed already."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"exit {code}")
