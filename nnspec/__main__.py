"""The command `nnspec`: finds the verb, runs it, and turns whatever happens into an exit code.

Only the module of the verb is imported, so that `nnspec check` stays quick. No traceback reaches a user:
an error of our own says so, and shows it with NNSPEC_DEBUG=1.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from nnspec import exits
from nnspec.commands import VERBS

_USAGE = "usage: nnspec COMMAND [options]"
# These end as soon as they have answered; looking for garbage would take a quarter of their time.
_QUICK = frozenset(("check", "fmt", "show", "explain", "compile", "render", "new"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if "--json" not in given:
            return _code(given)
        from nnspec.terminal import diagnostics_as_json

        with diagnostics_as_json():
            return _code(given)
    except BrokenPipeError:
        return _quiet()


def _code(given: list[str]) -> int:
    """Run the command line; whatever happens becomes an exit code, but for a reader who has gone."""
    try:
        code = _dispatch(given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return exits.INTERRUPTED
    except Exception as failure:
        return _failed(failure)


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        print(_overview(), file=sys.stdout if given else sys.stderr)
        return exits.OK if given else exits.USAGE
    if given[0] in ("-V", "--version"):
        return _version()
    verb, *rest = given
    if verb not in VERBS:
        return _unknown(verb)
    return _run(verb, rest)


def _run(verb: str, rest: list[str]) -> int:
    if verb in _QUICK:
        gc.disable()
    from importlib import import_module

    from nnspec.commands.parser import Parser

    command = import_module(f"nnspec.commands.{verb}")
    parser = Parser(prog=f"nnspec {verb}", description=command.__doc__, allow_abbrev=False)
    command.arguments(parser)
    return command.run(parser.parse_intermixed_args(rest))


def _overview() -> str:
    lines = [_USAGE, "", "commands:"]
    lines += [f"  {verb:<9} {summary}" for verb, summary in VERBS.items()]
    lines += ["", "`nnspec COMMAND --help` says more about one; `nnspec --version` prints the version."]
    return "\n".join(lines)


def _version() -> int:
    from nnspec import __version__

    print(f"nnspec {__version__}")
    return exits.OK


def _unknown(verb: str) -> int:
    from nnspec.dsl.errors.command_line import UnknownCommand
    from nnspec.dsl.suggest import nearest
    from nnspec.terminal import complain

    complain(UnknownCommand(None, name=verb, suggestion=nearest(verb, VERBS)))
    print(_USAGE, file=sys.stderr)
    return exits.USAGE


def _failed(failure: Exception) -> int:
    """Print why a command failed; return the code for it."""
    from nnspec.dsl.diagnostics import RunError, SpecError
    from nnspec.terminal import complain

    if isinstance(failure, exits.Stop):
        return failure.code
    if isinstance(failure, SpecError):
        complain(*failure.errors)
        return exits.SPEC_WRONG
    if isinstance(failure, exits.UsageError):
        complain(failure.error)
        return exits.USAGE
    if isinstance(failure, RunError):
        complain(failure.error)
        return exits.RUN_FAILED
    return _own_fault(failure)


def _own_fault(failure: Exception) -> int:
    if os.environ.get("NNSPEC_DEBUG") == "1":
        import traceback

        traceback.print_exception(failure)
    print(
        f"nnspec has a bug: {type(failure).__name__}: {failure}\n"
        "This is not your fault. Please report it with the spec that shows it; NNSPEC_DEBUG=1 shows where it arose.",
        file=sys.stderr,
    )
    return exits.INTERNAL


def _quiet() -> int:
    """Whoever read our output has stopped: say nothing, also when Python closes its streams."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return exits.OK


if __name__ == "__main__":
    sys.exit(main())
