"""The fields of an experiment, as one record of arguments: what each takes, and what it is if left out."""

from __future__ import annotations

from nnspec.dsl.catalog import Argument, Entry

FIELDS = Entry(
    name="experiment",
    family="field",
    doc="What an experiment says, a field a line.",
    arguments=(
        Argument(name="network", kind="network", doc="a network, perhaps with parameters"),
        Argument(name="data", kind="data", doc="a data set"),
        Argument(name="loss", kind="loss", doc="what training makes small"),
        Argument(name="learn", kind="rule", doc="the learning rule"),
        Argument(
            name="optimizer", kind="optimizer", default=None, doc="takes the rule's direction; else adam"
        ),
        Argument(
            name="schedule",
            kind="schedule",
            default=None,
            nullable=True,
            doc="a factor on the learning rate over the run",
        ),
        Argument(
            name="epochs",
            kind="int",
            default=None,
            at_least=1,
            doc="passes over the training part; this or `steps` must be given",
        ),
        Argument(name="steps", kind="int", default=None, at_least=1, doc="batches in all"),
        Argument(
            name="stages",
            kind="stage",
            listed="either",
            default=(),
            doc="what the run does one after another, instead of `epochs` or `steps`",
        ),
        Argument(
            name="batch",
            kind="int",
            default=64,
            at_least=1,
            nullable=True,
            doc="rows in a batch; none: the whole training part",
        ),
        Argument(
            name="seeds",
            kind="int",
            listed="either",
            default=0,
            at_least=0,
            doc="one run each; they vary all but the data",
        ),
        Argument(
            name="restarts",
            kind="int",
            default=1,
            at_least=1,
            doc="initialisations of each seed, of which one is the result",
        ),
        Argument(
            name="select",
            kind="select",
            default=None,
            nullable=True,
            doc="which restart; else the one of least training loss",
        ),
        Argument(name="metrics", kind="metric", listed="either", default=(), doc="reported beside the loss"),
        Argument(
            name="evaluate",
            kind="way",
            listed="either",
            default=(),
            doc="the ways in which a trained network is judged; else as it was trained",
        ),
        Argument(name="shuffle", kind="bool", default=True, doc="whether each epoch has its own order"),
        Argument(
            name="seed_mode",
            kind="choice",
            choices=("streams", "torch"),
            default="streams",
            doc="named streams from the one seed, or torch.manual_seed once as in a plain script",
        ),
        Argument(
            name="device",
            kind="choice",
            choices=("auto", "cpu", "cuda", "mps"),
            default="auto",
            doc="where to train",
        ),
        Argument(
            name="precision",
            kind="choice",
            choices=("float32", "float64", "bfloat16"),
            default="float32",
            doc="bfloat16 is mixed precision",
        ),
        Argument(name="stop", kind="stop", default=None, nullable=True, doc="early stopping"),
        Argument(
            name="save",
            kind="choice",
            choices=("last", "best"),
            default="last",
            doc="which weights the run keeps",
        ),
    ),
    example="epochs = 20",
)

# What a `train` block may say; what it leaves out comes from the experiment.
BLOCK_FIELDS = Entry(
    name="train",
    family="field",
    doc="How the selected parameters learn.",
    arguments=(
        Argument(name="loss", kind="loss", default=None, doc="what they make small"),
        Argument(name="learn", kind="rule", default=None, doc="their learning rule"),
        Argument(name="optimizer", kind="optimizer", default=None, doc="their optimizer"),
        Argument(name="schedule", kind="schedule", default=None, doc="a factor on their learning rate"),
        Argument(name="every", kind="int", default=1, at_least=1, doc="steps from one of theirs to the next"),
        Argument(name="during", kind="interval", default=(0.0, 1.0), doc="a part of the run: `0.5..1.0`"),
    ),
    example="train head.** { optimizer = sgd(lr = 0.1) }",
)

LATER_FIELDS: dict[str, str] = {}

EXAMPLES = {
    "network": "network = my_network",
    "data": "data = digits(test = 0.2)",
    "loss": "loss = cross_entropy",
    "learn": "learn = backprop",
}
