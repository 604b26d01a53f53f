"""The words of a learning rule's equations: what each is, and where it lives.

A word lives in spaces: "post" (one number a target unit), "pre" (one a source unit), "edge" (one a synapse), "bias",
"output" (one a unit of the network's output), "module", "rest" (parameters that are no synapse's), or in none (one
number a sample). Those that are not `batched` are the same for every sample.
"""

from __future__ import annotations

from nnspec.dsl.node import Node


class Word(Node):
    """A word that is read: `post`, `output.error`."""

    name: str
    spaces: tuple[str, ...]
    doc: str
    batched: bool = True
    step: bool = False  # only inside the sum over a phase's steps


READ: dict[str, Word] = {
    word.name: word
    for word in (
        Word(name="pre", spaces=("pre",), doc="what comes in at the synapse"),
        Word(name="drive", spaces=("post",), doc="what the linear map gives, bias included"),
        Word(name="post", spaces=("post",), doc="the drive behind its elementwise functions"),
        Word(name="post.derivative", spaces=("post",), doc="the slope of post in its drive"),
        Word(
            name="drive.error",
            spaces=("post",),
            doc="dL/d drive through the backward pass, with the rule's feedback in it",
        ),
        Word(name="weight", spaces=("edge",), doc="the weight in force", batched=False),
        Word(name="bias", spaces=("bias",), doc="the bias in force", batched=False),
        Word(name="output", spaces=("output",), doc="the network's output"),
        Word(name="output.error", spaces=("output",), doc="dL/d output of the sample's loss"),
        Word(
            name="output.target",
            spaces=("output",),
            doc="the target in the output's form: labels are one-hot",
        ),
        Word(name="module.error", spaces=("module",), doc="dL/d what the synapse's module gives, exact"),
        Word(name="loss", spaces=(), doc="the sample's loss"),
        Word(name="noise", spaces=("post",), doc="what a `forward(noise = s)` added to the drive"),
        Word(
            name="post.error",
            spaces=("post",),
            doc="dL/d post, through the backward pass; where values relax, post less the value that is there",
        ),
        Word(name="post.change", spaces=("post",), doc="by how much post changed in this step", step=True),
        Word(name="rest.error", spaces=("rest",), doc="dL/d a parameter that is no synapse's", batched=False),
    )
}

# Functions that have a meaning of their own in a rule, and how many arguments each takes.
FUNCTIONS: dict[str, str] = {
    "sum": "the sum over the units, for each sample",
    "mean": "the mean over the units, for each sample",
    "average": "the mean over the samples of the batch",
    "running": "the sum over the target units up to this one",
    "incoming": "through the weight, from sources to targets",
    "outgoing": "through the transposed weight, from targets to sources",
    "dense": "computed for every pair of units and sample, where an equation does not separate",
}

# Functions of the states of all units, for what a phase pushes them with.
PUSHED: dict[str, str] = {
    "incoming": FUNCTIONS["incoming"],
    "outgoing": FUNCTIONS["outgoing"],
    "jvp": "times the Jacobian of what drives the units, at the states with which the phase begins",
    "vjp": "times the transposed Jacobian of what drives the units, at the states with which the phase begins",
}

GATHERED = ("sum", "slope")  # of a phase: over its steps, and in its nudge
INTO = ("drive", "post")  # feedback from here into the sources has the shape of the weight
TARGETS = ("weight", "bias", "rest")  # what an `update` may change, beside a feedback
SOURCES = ("output", "module", "drive", "post")  # from where feedback may come ..
ENDS = {"output": "post", "module": "post", "drive": "pre", "post": "pre"}  # .. and where it then leads
