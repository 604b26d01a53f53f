"""What a drawn instance is called: its name, how many copies it stands for, whom it follows.

In: children of a typed block. Out: captions, and the words beside them.
"""

from __future__ import annotations

from nnspec.compiler.diagrams.labels import parameter_count, words
from nnspec.compiler.diagrams.steps import is_copy
from nnspec.compiler.following import follow_text
from nnspec.compiler.ir import Apply, Child, Instance, Primitive
from nnspec.dsl.node import Node


class Caption(Node):
    """What a drawn instance is called."""

    title: str  # "" where the operation's own word says it
    times: str = ""  # " × 6" for all the copies of a repeat
    copies: int = 1
    mark: str = ""  # "shared", or whom it follows

    @property
    def text(self) -> str:
        return self.title + self.times

    def inside(self, child: Child) -> Caption:
        """The caption of a child that is all there is in this one: `repeat × 6` of `block` is `block × 6`."""
        own, mark = own_name(child), _mark(child) or self.mark
        if not own or not self.title or (self.times and numberless(self.title) == "repeat"):
            return self.replace(title=own or self.title, mark=mark)
        return self.replace(title=f"{self.title} · {own}", mark=mark)


def own_name(child: Child) -> str:
    """A child's name, unless it only repeats the word of its operation."""
    instance = child.instances[0]
    same = isinstance(instance, Primitive) and instance.operation in (child.name, numberless(child.name))
    return "" if same else child.name


def numberless(name: str) -> str:
    return name.rstrip("0123456789").removesuffix("_")


def _mark(child: Child) -> str:
    if child.follows is not None:
        return follow_text(child.follows)
    return "shared" if child.shared else ""


def caption_of(child: Child, index: int, copies: int) -> Caption:
    """The caption of a child, or of some of its instances from one on."""
    if not child.repeated:
        return Caption(title=own_name(child), mark=_mark(child))
    if copies == len(child.instances):
        return Caption(title=child.name, times=f" × {copies}", copies=copies, mark=_mark(child))
    where = f"{index}" if copies == 1 else f"{index}..{index + copies - 1}"
    return Caption(title=f"{child.name}[{where}]", copies=copies, mark=_mark(child))


def with_functions(title: str, functions: tuple[Apply, ...]) -> str:
    shown = (function for function in functions if not is_copy(function))
    return " · ".join([title, *(words(function.operation)[0] for function in shown)])


def parameters_text(instance: Instance, copies: int) -> str:
    count = parameter_count(instance)
    if not count:
        return ""
    text = "1 parameter" if count == 1 else f"{count:,} parameters"
    return f"{text} each" if copies > 1 else text
