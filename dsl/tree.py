"""Builds the written tree from the parse tree: one method for each rule of the grammar."""

from __future__ import annotations

from typing import Any

from lark import Token

from nnspec.dsl import syntax as s
from nnspec.dsl.expression_tree import ExpressionBuilder, unquote, value_of
from nnspec.dsl.source import Span


def _texts(children: list[Any]) -> list[str]:
    return [str(child) for child in children if isinstance(child, str)]


class TreeBuilder(ExpressionBuilder):
    """Adds items and statements to expressions."""

    # ----------------------------------------------------------------------------------------------- items

    def start(self, meta: Any, children: list[Any]) -> Any:
        language, doc, *items = children
        found = tuple(item for item in items if isinstance(item, s.Item))
        return s.File(items=found, source=self.source, doc=doc, language=language, span=self.span(meta))

    def language(self, meta: Any, children: list[Any]) -> int | float:
        return value_of(str(children[0]))

    def doc(self, meta: Any, children: list[Any]) -> str:
        from inspect import cleandoc

        text = cleandoc(str(children[0])[3:-3])
        return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")

    def use(self, meta: Any, c: list[Any]) -> Any:
        quoted = isinstance(c[0], Token) and c[0].type == "STRING"
        target = unquote(str(c[0])) if quoted else str(c[0])
        return s.Use(target=target, quoted=quoted, name=c[1] and str(c[1]), span=self.span(meta))

    def let(self, meta: Any, c: list[Any]) -> Any:
        return s.Let(name=str(c[0]), value=c[1], span=self.span(meta))

    def layer(self, meta: Any, c: list[Any]) -> Any:
        name, parameters, (doc, body) = c
        return s.LayerDefinition(body=body, doc=doc, **self.head(meta, name, parameters))

    def head(self, meta: Any, name: Token, parameters: Any) -> dict[str, Any]:
        return {
            "name": str(name),
            "name_span": self.token_span(name),
            "parameters": parameters or (),
            "span": self.span(meta),
        }

    def network(self, meta: Any, c: list[Any]) -> Any:
        name, parameters, (doc, body) = c
        return s.NetworkDefinition(body=body, doc=doc, **self.head(meta, name, parameters))

    def derived_network(self, meta: Any, c: list[Any]) -> Any:
        name, parameters, base, body = c
        doc, statements = body or (None, ())
        return s.NetworkDefinition(body=statements, doc=doc, base=base, **self.head(meta, name, parameters))

    def activation(self, meta: Any, c: list[Any]) -> Any:
        name, parameters, doc, function, *claims = c
        head = self.head(meta, name, parameters)
        return s.ActivationDefinition(function=function, claims=tuple(claims), doc=doc, **head)

    def constraint(self, meta: Any, c: list[Any]) -> Any:
        name, parameters, doc, *clauses = c
        return s.ConstraintDefinition(clauses=tuple(clauses), doc=doc, **self.head(meta, name, parameters))

    def dynamics(self, meta: Any, c: list[Any]) -> Any:
        name, parameters, doc, *body = c
        lines = tuple(line for line in body if line is not None)
        return s.DynamicsDefinition(body=lines, doc=doc, **self.head(meta, name, parameters))

    def rule(self, meta: Any, c: list[Any]) -> Any:
        name, parameters, doc, *body = c
        lines = tuple(line for line in body if line is not None)
        return s.RuleDefinition(body=lines, doc=doc, **self.head(meta, name, parameters))

    def experiment(self, meta: Any, c: list[Any]) -> Any:
        name, parameters, base, doc, *body = c
        lines = tuple(line for line in body if line is not None)
        head = self.head(meta, name, parameters)
        return s.ExperimentDefinition(body=lines, doc=doc, base=base, **head)

    def analyze(self, meta: Any, c: list[Any]) -> Any:
        target, doc, *passes = c
        found = tuple(p for p in passes if p is not None)
        return s.AnalyzeDefinition(
            target=str(target), target_span=None, passes=found, doc=doc, span=self.span(meta)
        )

    def parameters(self, meta: Any, c: list[Any]) -> Any:
        return tuple(p for p in c if p is not None)

    def parameter(self, meta: Any, c: list[Any]) -> Any:
        (*learn, name), kind, default = c
        return s.ParameterDeclaration(
            name=str(name), type=kind, default=default, learn=bool(learn), span=self.span(meta)
        )

    def parameter_name(self, meta: Any, c: list[Any]) -> Any:
        return c

    # ------------------------------------------------------------------------------------------ statements

    def body(self, meta: Any, c: list[Any]) -> Any:
        doc, *statements = c
        return doc, tuple(x for x in statements if x is not None)

    def input(self, meta: Any, c: list[Any]) -> Any:
        return s.Input(name=str(c[0]), type=c[1], span=self.span(meta))

    def output(self, meta: Any, c: list[Any]) -> Any:
        return s.Output(name=str(c[0]), type=c[1], value=c[2], span=self.span(meta))

    def state(self, meta: Any, c: list[Any]) -> Any:
        return s.State(name=str(c[0]), type=c[1], value=c[2], span=self.span(meta))

    def shared(self, meta: Any, c: list[Any]) -> Any:
        return s.Shared(name=str(c[0]), value=c[1], span=self.span(meta))

    def owned(self, meta: Any, c: list[Any]) -> Any:
        kind, name, written, value = c
        return s.Parameter(kind=str(kind), name=str(name), type=written, value=value, span=self.span(meta))

    def update_buffer(self, meta: Any, c: list[Any]) -> Any:
        return s.UpdateBuffer(name=str(c[0]), value=c[1], span=self.span(meta))

    def penalty(self, meta: Any, c: list[Any]) -> Any:
        return s.Penalty(name=str(c[0]), value=c[1], span=self.span(meta))

    def constrain(self, meta: Any, c: list[Any]) -> Any:
        return s.Constrain(selector=c[0], constraint=c[1], span=self.span(meta))

    def initialize(self, meta: Any, c: list[Any]) -> Any:
        return s.Initialize(selector=c[0], value=c[1], span=self.span(meta))

    def require(self, meta: Any, c: list[Any]) -> Any:
        message = None if c[1] is None else unquote(str(c[1]))
        return s.Require(condition=c[0], message=message, span=self.span(meta))

    def expect(self, meta: Any, c: list[Any]) -> Any:
        return s.Expect(condition=c[0], span=self.span(meta))

    def over(self, meta: Any, c: list[Any]) -> Any:
        return s.Over(axis=str(c[0]), body=c[1][1], span=self.span(meta))

    def connect(self, meta: Any, c: list[Any]) -> Any:
        (sources, left), arrow, (targets, right), name, *options = c
        return s.Connect(
            sources=sources,
            arrow=str(arrow),
            targets=targets,
            grouped=(left, right),
            name=name and str(name),
            span=self.span(meta),
            **dict(options),
        )

    def arrow(self, meta: Any, c: list[Any]) -> Any:
        return c[0]

    def via(self, meta: Any, c: list[Any]) -> Any:
        first, *rest = c
        if not rest:
            return "via", first
        steps = tuple(s.CallStep(function=layer, span=layer.span) for layer in rest)
        span = Span(source=self.source, start=first.span.start, end=rest[-1].span.end)
        return "via", s.Chain(source=first, steps=steps, span=span)

    def except_(self, meta: Any, c: list[Any]) -> Any:
        return "except_", str(c[0])

    def where(self, meta: Any, c: list[Any]) -> Any:
        return "where", c[0]

    def from_(self, meta: Any, c: list[Any]) -> Any:
        return "from_", c[0]

    def single(self, meta: Any, c: list[Any]) -> Any:
        return (str(c[0]),), False

    def several(self, meta: Any, c: list[Any]) -> Any:
        return tuple(_texts(c)), True

    def use_dynamics(self, meta: Any, c: list[Any]) -> Any:
        return s.UseDynamics(value=c[0], span=self.span(meta))

    def assignment(self, meta: Any, c: list[Any]) -> Any:
        *names, kind, value = c
        return s.Assignment(names=tuple(map(str, names)), type=kind, value=value, span=self.span(meta))

    assignment_line = assignment

    def target(self, meta: Any, c: list[Any]) -> Any:
        return c[0]

    soft = word = rule_word = train_word = target

    def forward(self, meta: Any, c: list[Any]) -> Any:
        return s.ConstraintClause(kind="forward", value=c[0], span=self.span(meta))

    def gradient(self, meta: Any, c: list[Any]) -> Any:
        return s.ConstraintClause(kind="gradient", value=c[0], span=self.span(meta))

    def project(self, meta: Any, c: list[Any]) -> Any:
        return s.ConstraintClause(kind="project", value=c[0], span=self.span(meta))

    def penalty_clause(self, meta: Any, c: list[Any]) -> Any:
        return s.ConstraintClause(kind="penalty", value=c[0], span=self.span(meta))

    def mask(self, meta: Any, c: list[Any]) -> Any:
        return s.ConstraintClause(kind="mask", value=c[0], span=self.span(meta))

    def derivative(self, meta: Any, c: list[Any]) -> Any:
        return s.Equation(name=str(c[0]), value=c[1], span=self.span(meta))

    def phase(self, meta: Any, c: list[Any]) -> Any:
        name, start, value = c
        return s.Phase(name=str(name), start=start and str(start), value=value, span=self.span(meta))

    def feedback(self, meta: Any, c: list[Any]) -> Any:
        name, source, target, via, value = c
        return s.Feedback(
            name=str(name), source=source, target=target, via=via, value=value, span=self.span(meta)
        )

    def update(self, meta: Any, c: list[Any]) -> Any:
        return s.Update(target=c[0], operator=str(c[1]), value=c[2], span=self.span(meta))

    def field(self, meta: Any, c: list[Any]) -> Any:
        name = c[0]
        return s.Field(name=str(name), name_span=self.token_span(name), value=c[1], span=self.span(meta))

    def train(self, meta: Any, c: list[Any]) -> Any:
        selector, *fields = c
        rest = isinstance(selector, Token)
        return s.TrainBlock(
            selector=None if rest else selector,
            rest=rest,
            fields=tuple(f for f in fields if f is not None),
            span=self.span(meta),
        )

    # ------------------------------------------------------------------------------------ selectors, types

    def selector(self, meta: Any, c: list[Any]) -> Any:
        return s.Selector(chosen=c[0], excepted=c[1] or (), span=self.span(meta))

    def selections(self, meta: Any, c: list[Any]) -> Any:
        return tuple(c)

    def selection(self, meta: Any, c: list[Any]) -> Any:
        every, *parts = c
        return s.Selection(parts=tuple(parts), every=every is not None, span=self.span(meta))

    def named(self, meta: Any, c: list[Any]) -> Any:
        return s.SelectorPart(name=str(c[0]), index=c[1], span=self.span(meta))

    def star(self, meta: Any, c: list[Any]) -> Any:
        return s.SelectorPart(name="*", span=self.span(meta))

    def double_star(self, meta: Any, c: list[Any]) -> Any:
        return s.SelectorPart(name="**", span=self.span(meta))

    def type(self, meta: Any, c: list[Any]) -> Any:
        name, *axes = c
        found = tuple(a for a in axes if a is not None)
        bracketed = str(self.span(meta).text).rstrip().endswith("]")
        return s.WrittenType(name=str(name), axes=found if bracketed else None, span=self.span(meta))

    def choices(self, meta: Any, c: list[Any]) -> Any:
        return s.WrittenType(name="", choices=tuple(unquote(str(x)) for x in c), span=self.span(meta))

    def rest(self, meta: Any, c: list[Any]) -> Any:
        return s.WrittenAxis(size=None, rest=True, span=self.span(meta))

    def axis(self, meta: Any, c: list[Any]) -> Any:
        return s.WrittenAxis(size=c[0], span=self.span(meta))

    def named_axis(self, meta: Any, c: list[Any]) -> Any:
        return s.WrittenAxis(size=c[1], name=str(c[0]), span=self.span(meta))
