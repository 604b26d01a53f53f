"""Looks up every name in a learning rule of the language, line by line.

rule direct_feedback(scale: real = 1.0) {
  feedback B: output -> post = normal(std = scale)
  e = B(output.error) * post.derivative
  update weight -= e * pre
}

Words of equations are those of `rule_words`; with phases each stands behind the name of one.
"""

from __future__ import annotations

from nnspec.dsl.bind_expression import ExpressionBinder
from nnspec.dsl.diagnostics import Related
from nnspec.dsl.errors.names import UndefinedName
from nnspec.dsl.errors.rules import FeedbackValue, RuleLine, UnknownInRule, WhichPhase
from nnspec.dsl.rule_words import ENDS, FUNCTIONS, GATHERED, INTO, PUSHED, READ, TARGETS
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import (
    Assignment,
    Binary,
    CallOf,
    Conditional,
    Expression,
    Feedback,
    Member,
    Name,
    Phase,
    RuleDefinition,
    Statement,
    Unary,
    Update,
)

_EXAMPLE = "update weight += post * pre"


class RuleBinder:
    """Checks the names of one rule whose parameters are in scope."""

    def __init__(self, binder: ExpressionBinder, item: RuleDefinition) -> None:
        self.binder = binder
        self.bag = binder.bag
        self.item = item
        self.parameters = frozenset(parameter.name for parameter in item.parameters)
        self.places: dict[str, Span] = {}  # of phases, feedback and local values
        self.phases: list[str] = []
        self.feedback: list[str] = []
        self.sources: dict[str, str] = {}
        self.local: set[str] = set()
        self.updated: dict[str, Span] = {}

    def run(self) -> None:
        """Check the body."""
        for line in self.item.body:
            self.line(line)
        if not self.updated:
            why = f"the rule `{self.item.name}` changes nothing"
            span = self.item.name_span or self.item.span
            self.bag.add(RuleLine(span, why=why, label="no `update`", help=f"say what it does: `{_EXAMPLE}`"))

    def line(self, line: Statement) -> None:
        match line:
            case Phase():
                self.phase(line)
            case Feedback():
                self.feedback_line(line)
            case Assignment(names=names, value=value):
                self.equation(value)
                self.declare(names[0], line.span)
                self.local.add(names[0])
            case Update():
                self.update(line)
            case _:
                pass

    def declare(self, name: str, span: Span) -> None:
        """A name is declared once, and hides no word of equations."""
        if name in READ or name in FUNCTIONS or name in PUSHED or name in ("module", "s"):
            why = f"`{name}` is a word of equations already"
            self.bag.add(RuleLine(span, why=why, label="another name is needed", help=None))
        elif name in self.places or name in self.parameters:
            first = self.places.get(name)
            self.binder.duplicate(name, span, first or self.binder.scope.get(name))
        self.places.setdefault(name, span)

    # ---------------------------------------------------------------------------------------------- lines

    def phase(self, line: Phase) -> None:
        if line.start is not None and line.start not in self.phases:
            known = ", ".join(f"`{name}`" for name in self.phases)
            help_text = f"above it stand {known}" if known else "no phase stands above it"
            why = f"the phase `{line.name}` begins from `{line.start}`, which is no phase above it"
            self.bag.add(WhichPhase(line.span, why=why, label=f"no phase `{line.start}`", help=help_text))
        written = line.value
        for argument in written.arguments if isinstance(written, CallOf) else ():
            self.equation(argument.value, steps=True)
        self.declare(line.name, line.span)
        self.phases.append(line.name)

    def feedback_line(self, line: Feedback) -> None:
        end = ENDS.get(line.source)
        if end is None or line.target != end:
            why = f"feedback does not lead from `{line.source}` to `{line.target}`"
            help_text = "there are `output -> post`, `module -> post`, `drive -> pre` and `post -> pre`"
            self.bag.add(RuleLine(line.span, why=why, label="no such way", help=help_text))
        if line.via is not None and line.source in INTO:
            why = "feedback into the sources of a synapse goes through the synapse's own map, with other weights"
            self.bag.add(
                RuleLine(line.via.span, why=why, label="no layer of its own", help="leave out `via`")
            )
        self.value(line.value, line)
        self.declare(line.name, line.span)
        self.feedback.append(line.name)
        self.sources[line.name] = line.source

    def value(self, expression: Expression, line: Feedback) -> None:
        """Check what feedback begins as."""
        match expression:
            case Unary(operand=operand):
                self.value(operand, line)
            case Binary(left=left, right=right):
                self.value(left, line)
                self.value(right, line)
            case Name(name="weight"):
                if line.source not in INTO:
                    why = "feedback from the output has not the shape of a weight"
                    self.bag.add(FeedbackValue(expression.span, why=why, label="of another shape", help=None))
            case Name(name=name) if name in self.parameters:
                pass
            case Name() | CallOf():
                self.word(expression, line)
            case _:
                pass  # numbers; what is none is refused where it is read

    def word(self, expression: Name | CallOf, line: Feedback) -> None:
        catalog = self.binder.catalog
        function = expression.function if isinstance(expression, CallOf) else expression
        name = function.name if isinstance(function, Name) else ""
        given = expression.arguments if isinstance(expression, CallOf) else ()
        entry = catalog.find("initializer", name)
        if entry is not None:
            self.binder.argument_names(entry, given)
            for argument in given:
                self.equation(argument.value)
        elif name == "sample" or catalog.find("operation", name) is not None:
            for argument in given:
                self.value(argument.value, line)
        else:
            near = nearest(name, [*catalog.names("initializer"), *self.parameters, "sample", "weight"])
            self.bag.add(UndefinedName(function.span, name=function.span.text, suggestion=near))

    def update(self, line: Update) -> None:
        if line.target not in (*TARGETS, *self.feedback):
            near = nearest(line.target, [*TARGETS, *self.feedback])
            help_text = (
                f"did you mean `{near}`?" if near else "there are `weight`, `bias`, `rest` and feedback"
            )
            why = f"a rule changes no `{line.target}`"
            self.bag.add(RuleLine(line.span, why=why, label="nothing that a rule changes", help=help_text))
        elif self.sources.get(line.target, "drive") not in INTO:
            source = self.sources[line.target]
            why = f"`{line.target}` stays as it is drawn: what leads from the {source} to a layer is not learned"
            label = f"feedback from the {source}"
            help_text = "feedback in the shape of the weight is: `feedback B: drive -> pre`, or `post -> pre`"
            self.bag.add(RuleLine(line.span, why=why, label=label, help=help_text))
        elif line.target in self.updated:
            related = (Related(span=self.updated[line.target], label="the first one"),)
            why = f"`{line.target}` is updated twice"
            help_text = "add the two changes up in one line"
            self.bag.add(RuleLine(line.span, related, why=why, label="a second update", help=help_text))
        self.updated.setdefault(line.target, line.span)
        self.equation(line.value)

    # ------------------------------------------------------------------------------------------ equations

    def equation(self, expression: Expression, steps: bool = False) -> None:
        """Check the names of an equation; with `steps`, one that speaks of the steps of one phase."""
        match expression:
            case Name() | Member():
                self.name(expression, steps)
            case Unary(operand=operand):
                self.equation(operand, steps)
            case Binary(left=left, right=right):
                self.equation(left, steps)
                self.equation(right, steps)
            case Conditional(value=value, condition=condition, otherwise=otherwise):
                for part in (condition, value, otherwise):
                    self.equation(part, steps)
            case CallOf():
                self.call(expression, steps)
            case _:
                pass

    def call(self, expression: CallOf, steps: bool) -> None:
        name = dotted(expression.function)
        head, _, last = name.rpartition(".")
        inside = steps
        if last in GATHERED and head:
            inside = True
            if head not in self.phases:
                self.no_phase(head, expression.function.span)
        elif not (
            name in FUNCTIONS or name in self.feedback or self.is_known(name) or (steps and name in PUSHED)
        ):
            known = [
                *FUNCTIONS,
                *(PUSHED if steps else ()),
                *self.feedback,
                *self.binder.catalog.names("operation"),
            ]
            near = nearest(name or expression.function.span.text, known)
            self.unknown(expression.function, f"did you mean `{near}`?" if near else None)
        for argument in expression.arguments:
            self.equation(argument.value, inside)

    def is_known(self, name: str) -> bool:
        return self.binder.catalog.find("operation", name) is not None or self.is_word(name)

    def is_word(self, name: str) -> bool:
        """Return whether a call is of a word of the catalog that phases take: `nudging = centered`."""
        return any(entry.family not in ("operation",) for entry in self.binder.catalog.anywhere(name))

    def name(self, expression: Name | Member, steps: bool) -> None:
        path = dotted(expression)
        if path in self.local or path in self.parameters or path in self.feedback:
            return
        head, _, rest = path.partition(".")
        if head in self.phases:
            self.of_phase(expression, rest)
        elif path in READ:
            self.bare(expression, path, steps)
        elif not (steps and (path == "s" or self.is_word(path))):
            self.unknown_name(expression, path, head)

    def of_phase(self, expression: Expression, rest: str) -> None:
        if (rest in READ and not READ[rest].step) or rest == "s":
            return
        known = [name for name, word in READ.items() if not word.step]
        near = nearest(rest, known)
        help_text = f"did you mean `{near}`?" if near else "of a phase one reads " + _listed(known)
        if rest in READ:
            help_text = f"it is of one step: sum over them, `{expression.span.text.partition('.')[0]}.sum({rest} * ..)`"
        self.unknown(expression, help_text)

    def bare(self, expression: Expression, path: str, steps: bool) -> None:
        """A word without a phase is clear where there are none, and inside a sum over steps."""
        if READ[path].step and not steps:
            why = f"`{path}` is of one step, and there is no sum over steps here"
            help_text = f"sum over those of a phase: `NAME.sum({path} * ..)`"
            self.bag.add(WhichPhase(expression.span, why=why, label="of which step?", help=help_text))
        elif self.phases and not steps and path not in ("weight", "bias"):
            why = f"the rule has phases, and `{path}` does not say of which"
            help_text = f"write `{self.phases[-1]}.{path}`"
            self.bag.add(WhichPhase(expression.span, why=why, label="of which phase?", help=help_text))

    def unknown_name(self, expression: Expression, path: str, head: str) -> None:
        if path != head and any(path == f"{head}.{name}" for name in READ):
            self.no_phase(head, expression.span)
            return
        known = [*READ, *self.local, *self.parameters, *self.phases]
        near = nearest(path, known)
        below = [line for line in self.item.body if isinstance(line, Assignment) and line.names[0] == path]
        if below:
            help_text = "it is defined below; a line reads those above it"
            self.bag.add(
                UnknownInRule(
                    expression.span,
                    (Related(span=below[0].span, label=f"`{path}` is defined here"),),
                    name=expression.span.text,
                    help=help_text,
                )
            )
            return
        self.unknown(expression, f"did you mean `{near}`?" if near else "it reads " + _listed(list(READ)))

    def unknown(self, expression: Expression, help_text: str | None) -> None:
        self.bag.add(UnknownInRule(expression.span, name=expression.span.text, help=help_text))

    def no_phase(self, name: str, span: Span) -> None:
        known = ", ".join(f"`{phase}`" for phase in self.phases)
        near = nearest(name, self.phases)
        help_text = (
            f"did you mean `{near}`?"
            if near
            else f"it has {known}"
            if known
            else "it has none above this line"
        )
        why = f"the rule has no phase called `{name}`"
        self.bag.add(WhichPhase(span, why=why, label="no such phase", help=help_text))


def dotted(expression: Expression) -> str:
    """Return a name as it is written, `output.error`; "" for anything else."""
    match expression:
        case Name(name=name):
            return name
        case Member(of=of, name=name):
            inner = dotted(of)
            return f"{inner}.{name}" if inner else ""
        case _:
            return ""


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
