"""Errors of networks that are dynamical systems: states, connections, dynamics (N0420 to N0439)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class StateUnsettled(Error):
    code = "N0420"
    title = "state read before it has settled"
    message = "`{name}` is a state, and has a value only behind the `dynamics` line"
    label = "read here"
    help = "{help}"
    explain = """A state is what neurons settle to. The line `dynamics ..` lets all states of the network settle at
once; lines behind it read their settled values, as in `output y = o`. Lines before it connect states and read none:
what drives a state stands in a `connect` line."""


class NoDynamics(Error):
    code = "N0421"
    title = "states without dynamics"
    message = "`{name}` is a state, and no line says how it moves"
    label = "never settles"
    help = "write a line `dynamics rate(tanh)` behind the connections, with `use library.dynamics` at the top of the file"
    explain = """`state` declares neurons, `connect` joins them, and one line `dynamics NAME(..)` says the equation that
all of them obey. Without it a state has no value. The library has `rate`, `leaky`, `hopfield`, `deep`, and a file may
define its own: `dynamics NAME { s = tanh(drive) }`."""


class SecondDynamics(Error):
    code = "N0422"
    title = "two dynamics"
    message = "the states of `{name}` have dynamics already"
    label = "a second one"
    help = "states that obey an equation of their own stand in a layer of their own"
    explain = """All states of a body settle together, under one equation. A part with another equation is a layer with
states of its own; what it settles to is a value that other parts read."""


class WrongEnd(Error):
    code = "N0423"
    title = "connection that ends nowhere"
    message = "a connection cannot {way} `{name}`: {why}"
    label = "here"
    help = "{help}"
    explain = """A connection leads from states, inputs or other values to states. Nothing enters an input: it is
what the data say. `a <-> b` leads both ways, so both ends are states."""


class NothingArrives(Error):
    code = "N0424"
    title = "state that nothing reaches"
    message = "no connection leads to the state `{name}`"
    label = "nothing drives it"
    help = "write `connect {source} -> {name}`"
    explain = """A state without an incoming connection settles to the same value whatever the input is, and learns
nothing but that value. It is most often a forgotten `connect` line."""


class NotDynamics(Error):
    code = "N0425"
    title = "not dynamics"
    message = "`{name}` is {found}, not dynamics"
    label = "here"
    help = "{help}"
    explain = """Behind the word `dynamics` in a network stands the name of a definition, `dynamics NAME { .. }`, of
this file, of a file that it uses, or of `library.dynamics`, with its arguments."""


class WrongEquation(Error):
    code = "N0426"
    title = "equation of dynamics"
    message = "dynamics `{name}`: {why}"
    label = "here"
    help = "{help}"
    explain = """Dynamics say one of three things of every unit: `s' = ..`, how fast its state changes; `s = ..`, what its
next state is; or `energy = ..`, a number whose sum over units the states descend. Other lines give names to parts:
`a = rate(s)`. The equation knows `s`, `bias`, `drive` (what arrives, incoming(s) + bias), `incoming(e)` (the sum over
connections that lead to the unit of weight times e, e read at the source), `outgoing(e)` (the sum over connections that
leave it, e read at the target) and `derivative(f, e)`."""


class WrongTerm(Error):
    code = "N0427"
    title = "word of dynamics that cannot stand here"
    message = "`{text}`: {why}"
    label = "here"
    help = "{help}"
    explain = """`incoming(e)` and `outgoing(e)` take one expression, which is read at the other end of each connection.
`derivative(f, e)` takes a function of entries and where its slope is taken. At an input, which is no state, `s` is the
input's value, and there is no bias."""


class ConnectionUnread(Error):
    code = "N0428"
    title = "connection that nothing reads"
    message = "dynamics `{name}` read no connection: they use none of `drive`, `incoming` and `outgoing`"
    label = "these units are on their own"
    help = "write `drive` where what arrives at a unit enters, as in `s = tanh(drive)`"
    explain = """A connection acts through the equation: `drive` or `incoming(e)` at the unit that it leads to,
`outgoing(e)` at the unit that it leaves. Without any of them every unit is alone."""


class OneSided(Error):
    code = "N0429"
    title = "energy with a one-sided connection"
    message = "dynamics `{name}` descend an energy, and this connection leads one way"
    label = "one-sided"
    help = "write `<->`: one weight, used forward and, transposed, back"
    explain = """The slope of an energy in one state holds what each of its neighbours says of it, with the same weight: a
system that descends an energy has symmetric weights. Between states write `<->`. Connections from inputs are one-sided:
an input does not move. For directed weights use dynamics that say `s' = ..` or `s = ..`."""


class WrongVia(Error):
    code = "N0430"
    title = "layer that is no connection"
    message = "`{text}` cannot be a connection: {why}"
    label = "here"
    help = "{help}"
    explain = """A connection is one linear layer with weights, such as `dense` or `conv2d`, and perhaps steps without
weights before and behind it, such as pooling: `connect a -> b via conv2d(8, kernel = 3) -> maxpool(2)`. It leads
from one value to one state. Its bias is left out: the state has one."""


class WrongSolver(Error):
    code = "N0431"
    title = "solver of the other form"
    message = "`{solver}` is for {other}, and dynamics `{name}` are {form}"
    label = "here"
    help = "{help}"
    explain = """Dynamics `s = ..` are a map, whose fixed point is found by `fixed_point`, `anderson` or `broyden`. Dynamics
`s' = ..` and `energy = ..` are a flow, followed by `euler` or `rk4`, or solved for a rate of zero by the others."""


class StateType(Error):
    code = "N0432"
    title = "type of a state"
    message = "`{name}` cannot be a state: {why}"
    label = "here"
    help = "{help}"
    explain = """A state is a group of neurons of a known size, each with a real number: `state h: real[50]`,
`state maps: real[8, 14, 14]`. A connection makes one matrix of the sizes of the groups that it joins."""


class StateStart(Error):
    code = "N0433"
    title = "start of a state"
    message = "`{name}` cannot begin so: {why}"
    label = "here"
    help = "write a number, or a distribution such as `uniform(0, 0.1)`; without a start it begins at zero"
    explain = """Each sample's states begin anew: at zero, at a number (`state h: real[n] = 0.5`), or at draws from a
distribution (`state h: real[n] = uniform(0, 0.1)`)."""


class WrongGraph(Error):
    code = "N0434"
    title = "units that cannot be joined so"
    message = "`{text}` cannot say which units are joined: {why}"
    label = "here"
    help = "{help}"
    explain = """`from GRAPH` keeps the weights of a connection that are edges of a graph. Its nodes are the units of
the sources, laid end to end; the targets are among the sources, and edges into other sources, such as inputs, are left out.
`where (i, j) => ..` says the same by a condition, the source first. A symmetric connection, `connect h <-> h`,
takes edges that lead both ways."""


class NoStates(Error):
    code = "N0435"
    title = "dynamics without states"
    message = "`{name}` has no states that could move"
    label = "moves nothing"
    help = "declare neurons above it, as in `state h: real[50]`, and connect them"
    explain = """The line `dynamics ..` lets the states of the same body settle. Those of a layer settle in that layer."""


class ConnectionMisfit(Error):
    code = "N0437"
    title = "connection that does not fit its state"
    message = "`{name}` brings {found}, and the state `{state}` is {expected}"
    label = "does not fit"
    help = "{help}"
    explain = """What a layer makes of its source must have the shape of the state that it leads to; nothing is
stretched. A matrix, the connection without `via`, always fits: it is made for the units that it joins."""


class StateMisfit(Error):
    code = "N0436"
    title = "equation that changes the shape of a state"
    message = "the {what} of the state `{name}` is {found}, and the state is {expected}"
    label = "this equation"
    help = "{help}"
    explain = """The equation gives each unit its next state or its rate of change, so that it has the shape of
the state. A sum over all units, for example, has not; what joins units are connections."""


class UnheardState(Error):
    code = "N0438"
    severity = "warning"
    title = "state that reaches no output"
    message = "`{name}` reaches no output: nothing behind the dynamics reads it, nor a state that is read"
    label = "its units change nothing"
    help = "read `{name}` behind the line `dynamics ..`, or connect it to a state that is read"
    explain = """The units of a state may be heard where lines behind the dynamics read them, or through other states that
they drive, in the steps that follow. Where neither is so, no output depends on the weights that lead to them, and
these never learn."""
