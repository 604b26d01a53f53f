"""Looks up the names in the lines of a dynamical system: `state`, `connect` and `dynamics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.dsl.bind_dynamics import RESERVED, dynamics_definition, nearest_dynamics, split_arguments
from nnspec.dsl.definitions import Definition, Module
from nnspec.dsl.errors.arguments import DuplicateArgument
from nnspec.dsl.errors.names import InLibrary, UndefinedName
from nnspec.dsl.errors.systems import NotDynamics, StateStart
from nnspec.dsl.standard import defined
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import CallOf, Chain, Connect, Expression, Name, State

if TYPE_CHECKING:
    from nnspec.dsl.bind_body import BodyBinder

_FAMILIES = {"solve": "solver", "gradient": "settled_gradient"}


def bind_state(binder: BodyBinder, statement: State) -> None:
    """Check `state NAME: TYPE = START`: a value, and an instance that may own a bias."""
    binder.type(statement.type, declares=False)
    value = statement.value
    function = value.function if isinstance(value, CallOf) else value
    known = isinstance(function, Name) and binder.catalog.find("distribution", function.name)
    if value is not None and known:
        binder.word(value, "distribution")
    elif (
        value is not None and isinstance(function, Name) and binder.catalog.find("initializer", function.name)
    ):
        why = f"`{function.name}` says how weights begin"
        binder.bag.add(StateStart(value.span, name=statement.name, why=why))
    elif isinstance(value, CallOf):
        binder.family_word("distribution", value)
    elif value is not None:
        binder.expression(value)
    binder.instance(statement.name, statement.span)
    binder.define(statement.name, statement.span)


def bind_connect(binder: BodyBinder, statement: Connect) -> None:
    """Check `connect SOURCES -> TARGETS as NAME via LAYER where CONDITION`."""
    for name in dict.fromkeys((*statement.sources, *statement.targets)):
        if name not in binder.scope and not binder.module.incomplete:
            near = nearest(name, [n for n in binder.scope if n in (*binder.scope, *binder.later)])
            binder.bag.add(UndefinedName(statement.span, name=name, suggestion=near))
    if statement.name is not None:
        binder.instance(statement.name, statement.span)
    if statement.via is not None:
        _via(binder, statement.via)
    if statement.where is not None:
        binder.expression(statement.where)
    if statement.from_ is not None:
        binder.family_word("graph", statement.from_)


def _via(binder: BodyBinder, written: Expression) -> None:
    """Check the layer of a connection, and steps beside it."""
    layers = (written.source, *written.steps) if isinstance(written, Chain) else (written,)
    for layer in layers:
        if isinstance(layer, Expression):
            binder.expression(layer)
        else:
            binder.step(layer)


def bind_use(binder: BodyBinder, use: Expression) -> None:
    """Check `dynamics NAME(..)`: a definition, its arguments, and those that all dynamics take."""
    module = binder.module
    definition = dynamics_definition(module, use)
    if definition is None:
        _not_dynamics(binder, use)
        return
    own, _ = split_arguments(use)
    binder.argument_names(definition, own)
    for argument in own:
        binder.expression(argument.value)
    seen: set[str] = set()
    for argument in use.arguments if isinstance(use, CallOf) else ():
        if argument.name not in RESERVED:
            continue
        if argument.name in seen:
            binder.bag.add(DuplicateArgument(argument.span, name=argument.name))
        seen.add(argument.name)
        family = _FAMILIES.get(argument.name)
        if family is None:
            binder.expression(argument.value)
        else:
            binder.family_word(family, argument.value)


def _not_dynamics(binder: BodyBinder, use: Expression) -> None:
    function = use.function if isinstance(use, CallOf) else use
    name = " ".join(function.span.text.split())
    if binder.module.incomplete:
        return
    found = binder.module.names.get(name)
    part = defined().get(name)
    near = nearest_dynamics(binder.module, name)
    if isinstance(found, Definition):
        help_text = "write the name of a definition `dynamics NAME { .. }`"
        binder.bag.add(NotDynamics(function.span, name=name, found=f"the {found.kind}", help=help_text))
    elif part is not None and not isinstance(found, Module):
        binder.bag.add(InLibrary(function.span, name=name, part=part))
    else:
        binder.bag.add(UndefinedName(function.span, name=name, suggestion=near))
