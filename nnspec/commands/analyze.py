"""Run an analysis over a network at initialisation, or over the trained weights of an experiment."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from nnspec import exits
from nnspec.analysing import Found, analyse, analyse_all, asked_for, judge_claims
from nnspec.commands.options import add_spec, open_spec, settings
from nnspec.compiler.experiment import Analysis
from nnspec.dsl.diagnostics import SpecError
from nnspec.exits import UsageError
from nnspec.spec import Spec
from nnspec.tables import print_result
from nnspec.terminal import complain, note, write
from nnspec.training import add_training


def arguments(parser: ArgumentParser) -> None:
    add_spec(parser)
    parser.add_argument("name", metavar="NAME", nargs="?", help="a network or an experiment of the file")
    parser.add_argument(
        "--pass",
        dest="analysis",
        metavar="PASS",
        help='such as cost or "symmetry(verify = true)"; without it, what the file itself asks for',
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="try the symmetries on random weights: short for symmetry(verify = true)",
    )
    add_training(parser)
    parser.add_argument("-o", dest="output", metavar="FILE", type=Path, help="write a report: FILE.html")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: Namespace) -> int:
    spec = open_spec(options)
    analyses = _analyses(spec, options)
    found: list[Found] = []
    refused = failed = False
    if options.analysis is not None:
        try:
            found = analyse(analyses[0], spec, options)
        except SpecError as refusal:  # of what the command line asks, not of the spec
            complain(*refusal.errors)
            return exits.USAGE
    else:  # what the file itself asks for: a pass that refuses does not stop the others
        for analysis in analyses:
            own, errors = analyse_all(analysis, spec, options)
            complain(*errors)
            found += own
            refused = refused or bool(errors)
        name = options.name or options.network
        asked = None if name is None else {name, *(analysis.target for analysis in analyses)}
        claimed, failed = judge_claims(spec, asked)
        found += claimed
    if options.output is not None:
        from nnspec.report import write_analyses

        write_analyses(options.output, spec, found)
        note(f"wrote {options.output}")
    if options.json:
        write(json.dumps(_data(found, options), indent=2) + "\n")
    elif options.output is None:
        for one in found:
            print_result(one.result)
    if refused:
        return exits.SPEC_WRONG
    return exits.RUN_FAILED if failed else exits.OK


def _analyses(spec: Spec, options: Namespace) -> list[Analysis]:
    if options.analysis is not None:
        target = options.name or options.network or spec.network().name
        found = asked_for(spec, target, options.analysis, settings(options.parameters))
        return [_verifying(found) if options.verify else found]
    name: str | None = options.name or options.network
    own = [analysis for analysis in spec.checked.analyses if name in (None, analysis.target)]
    claims = any(one.claims and name in (None, one.name) for one in spec.checked.claimed)
    if not own and not claims:
        from nnspec.dsl.errors.command_line import NothingToAnalyse

        about = "" if name is None else f" of `{name}`"
        raise UsageError(NothingToAnalyse(None, file=spec.name, about=about))
    return [_verifying(analysis) for analysis in own] if options.verify else own


def _verifying(analysis: Analysis) -> Analysis:
    """Return the analysis with those of its passes verified that can be; UsageError if none can."""
    from nnspec.compiler.passes.registry import find

    able = {
        choice.name
        for choice in analysis.passes
        if any(argument.name == "verify" for argument in find(choice.name).arguments)
    }
    if not able:
        from nnspec.dsl.errors.passes import NothingToVerify

        asked = f"what is asked for is {', '.join(f'`{choice.name}`' for choice in analysis.passes)}"
        raise UsageError(NothingToVerify(None, asked=asked))
    return analysis.replace(
        passes=tuple(
            choice.replace(arguments=tuple((choice.options | {"verify": True}).items()))
            if choice.name in able
            else choice
            for choice in analysis.passes
        )
    )


def _data(found: list[Found], options: Namespace) -> Any:
    """The pass's own data if one was named, else one record for each."""
    if options.analysis is not None:
        return found[0].result.data
    return [one.json() for one in found]
