"""`mask((i, j) => abs(i - j) <= 2)` or `mask("file.npy")`: exactly these entries of a weight exist.

The indices of a matrix are those of the unit and of its input; a convolution has four (output and input
channel, row and column of the kernel), of which the first two alone may be named.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constraints.conditions import Condition, condition
from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.constraints.files import allowed
from nnspec.compiler.constraints.npy import BadMask, packed, read_mask
from nnspec.compiler.constraints.topology import MOST_ENTRIES, Topology
from nnspec.compiler.ir import Code
from nnspec.compiler.values import Given, Refused
from nnspec.dsl.catalog import Argument
from nnspec.dsl.errors.arguments import MissingArgument
from nnspec.dsl.errors.topologies import WrongMaskFile
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Argument as WrittenArgument
from nnspec.dsl.syntax import Lambda, Text

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator

_HELP = "write `mask((i, j) => abs(i - j) <= 2)`, or the path of a file in quotes"


class MaskFile(Node):
    """A mask as a file had it."""

    path: str
    shape: tuple[int, ...]
    entries: bytes
    span: Span | None = None

    def __str__(self) -> str:
        """Return the path as a spec writes it."""
        return f'"{self.path}"'


class MaskGraph(MaskFile):
    """A mask that the edges of a graph make; `path` is the graph as a spec writes it."""

    def __str__(self) -> str:
        """Return the graph as a spec writes it."""
        return self.path


class Mask(Topology):
    name = "mask"
    doc = "Exactly the entries exist whose indices obey a condition, or that a file of numpy's format marks."
    arguments = (
        Argument(name="entries", kind="value", doc="a condition `(i, j) => ...`, or the path of a file"),
    )
    example = "constrain fc1.weight: mask((i, j) => abs(i - j) <= 2)"

    def use(
        self, evaluator: Evaluator, arguments: tuple[WrittenArgument, ...], span: Span | None
    ) -> dict[str, Any]:
        """Return the condition, or what the file says."""
        from nnspec.compiler.callables import match_arguments

        given = tuple(Given(name=a.name, value=None, expression=a.value, span=a.span) for a in arguments)
        matched = match_arguments(self.name, ("entries",), given, span)
        written = matched["entries"].expression if "entries" in matched else None
        if isinstance(written, Lambda):
            return {"entries": condition(evaluator, written)}
        if isinstance(written, Text):
            return {"entries": _read(evaluator, written)}
        if written is None:
            raise Refused(MissingArgument(span, callee=self.name, name="entries", help=_HELP))
        value = evaluator.expression(written)
        if isinstance(value, str):
            return {"entries": _read(evaluator, Text(value=value, span=written.span))}
        raise Refused(WrongMaskFile(written.span, path=written.span.text, why="it is not a path", help=_HELP))

    def begin(self, site: WeightSite) -> Code:
        """Return the call that makes the mask."""
        if not self.free(site):
            raise Misfit("it keeps no entry, which cuts every output off from the input")
        made: Any = site["entries"]
        if isinstance(made, MaskFile):
            return Code(file="masks", name="unpacked", options=(("bits", packed(made.entries)),))
        partial = made.replace(partial=len(made.names) < len(site.sizes))
        options: tuple[tuple[str, Any], ...] = (("condition", partial),)
        return Code(
            file="masks", name="where", options=options if made.exact else (*options, ("whole", False))
        )

    def entries(self, site: WeightSite) -> tuple[bytes, ...]:
        """Return which entries exist."""
        return rows_of(site)

    def without_input(self, site: WeightSite) -> tuple[int, ...]:
        """Return the units whose row has no entry."""
        return tuple(unit for unit, count in enumerate(kept_by_unit(site)) if not count)

    def free(self, site: WeightSite) -> int:
        """Return how many entries exist."""
        counts = kept_by_unit(site)
        return sum(counts) * (prod(site.sizes) // (len(counts) * _width(site)))


def kept_by_unit(site: WeightSite) -> list[int]:
    """Return how many entries each unit keeps, of those that the condition tells apart; or raise Misfit."""
    return [row.count(1) for row in rows_of(site)]


def rows_of(site: WeightSite) -> tuple[bytes, ...]:
    """Return for each unit which entries exist, of those that the condition tells apart; or raise Misfit."""
    made, shape = site["entries"], site.sizes
    if prod(shape) > MOST_ENTRIES:
        raise Misfit(f"it has {prod(shape):,} entries, and masks have at most {MOST_ENTRIES:,}")
    if isinstance(made, MaskFile):
        if made.shape != shape:
            found = " x ".join(map(str, made.shape))
            raise Misfit(f"`{made.path}` is {found}", help=f"make it {' x '.join(map(str, shape))}")
        width = prod(shape[1:])
        return tuple(made.entries[at : at + width] for at in range(0, len(made.entries), width))
    if len(made.names) not in (len(shape), min(2, len(shape))):
        raise Misfit(f"the condition names {len(made.names)} indices, and it has {len(shape)} axes")
    try:
        return _decided(made, shape)
    except ZeroDivisionError:
        raise Misfit("the condition divides by zero at some entry") from None


@lru_cache(maxsize=16)
def _decided(made: Condition, shape: tuple[int, ...]) -> tuple[bytes, ...]:
    return tuple(made.rows(shape))


def _width(site: WeightSite) -> int:
    """Return how many entries of a unit the condition tells apart."""
    made = site["entries"]
    named = len(site.sizes) if isinstance(made, MaskFile) else len(made.names)
    return prod(site.sizes[1:named])


def _read(evaluator: Evaluator, written: Text) -> MaskFile:
    """Return what a file says, or raise Refused."""
    texts = {"path": _shown(written)}
    path = allowed(evaluator, written.value, written.span, WrongMaskFile, texts, "*.npy")
    try:
        if path.stat().st_size > 8 * MOST_ENTRIES + 20_000:
            raise BadMask("it is too large")
        shape, entries = read_mask(path.read_bytes())
    except BadMask as bad:
        raise Refused(
            _wrong(written, str(bad), "save it with `numpy.save(path, mask.astype(bool))`")
        ) from None
    except OSError as error:
        raise Refused(_wrong(written, f"it cannot be read ({error.strerror})", None)) from None
    return MaskFile(path=written.value, shape=shape, entries=entries, span=written.span)


def _wrong(written: Text, why: str, help_text: str | None) -> WrongMaskFile:
    return WrongMaskFile(written.span, path=_shown(written), why=why, help=help_text)


def _shown(written: Text) -> str:
    return written.value.replace("\0", "\\0")[:200]
