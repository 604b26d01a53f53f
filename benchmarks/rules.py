"""A step of rules written as equations beside the same update by hand, as an einsum over the batch.

In: nothing. Out: a table in Markdown: one layer of 784-512 (Hebb, Oja, Sanger) and an MLP 784-512-512-10 (backprop as an
equation, feedback alignment, direct feedback alignment), batch 128, one thread, medians of interleaved rounds in one run.
By hand means everything that the rule's step does: the forward pass, errors through the feedback, and the update as einsum
of the two factors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent))

import numpy
import torch
from fitted import experiment
from rounds import seconds, table
from torch import Tensor
from torch.nn import functional

from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare

ROWS, STEPS, ROUNDS = 128, 10, 40

EXPERIMENT = """
experiment e {
  network = net
  data    = npz("data.npz", input = "image", target = "label", test = 0.0)
  loss    = LOSS
  learn   = RULE
  optimizer = sgd(lr = 0.001)
  epochs  = 1
  batch   = none
}
"""

LAYER = """
network net {
  input  image: real[784]
  output digit: real[512] = image -> dense(512, bias = false) as d
}
"""

MLP = """
network net {
  input  image: real[784]
  h      = image -> dense(512) as fc1 -> tanh -> dense(512) as fc2 -> tanh
  output digit: real[10] = h -> dense(10) as fc3
}
"""

ByHand = Callable[[dict[str, Tensor], dict[str, Tensor], Tensor, Tensor], dict[str, Tensor]]


def hebb(w: dict[str, Tensor], b: dict[str, Tensor], x: Tensor, label: Tensor) -> dict[str, Tensor]:
    y = functional.linear(x, w["d.weight"])
    (y**2).mean()
    return {"d.weight": torch.einsum("no,ni->oi", y, x) / -len(x)}


def oja(w: dict[str, Tensor], b: dict[str, Tensor], x: Tensor, label: Tensor) -> dict[str, Tensor]:
    y = functional.linear(x, w["d.weight"])
    (y**2).mean()
    shrink = torch.einsum("no,no->o", y, y)[:, None] * w["d.weight"]
    return {"d.weight": (shrink - torch.einsum("no,ni->oi", y, x)) / len(x)}


def sanger(w: dict[str, Tensor], b: dict[str, Tensor], x: Tensor, label: Tensor) -> dict[str, Tensor]:
    y = functional.linear(x, w["d.weight"])
    (y**2).mean()
    explained = torch.einsum("no,nk->ok", y, y).tril() @ w["d.weight"]
    return {"d.weight": (explained - torch.einsum("no,ni->oi", y, x)) / len(x)}


def _errors(
    w: dict[str, Tensor], back: dict[str, Tensor], x: Tensor, label: Tensor, direct: bool
) -> dict[str, Tensor]:
    pres: list[Tensor] = [x]
    posts: list[Tensor] = []
    for layer in ("fc1", "fc2"):
        posts.append(torch.tanh(functional.linear(pres[-1], w[f"{layer}.weight"], w[f"{layer}.bias"])))
        pres.append(posts[-1])
    y = functional.linear(pres[-1], w["fc3.weight"], w["fc3.bias"])
    functional.cross_entropy(y, label)
    error = torch.softmax(y, 1)
    error[torch.arange(len(x)), label] -= 1
    errors = [error]
    for place, layer in ((1, "fc3"), (0, "fc2")):
        sent = functional.linear(error, back[f"fc{place + 1}"]) if direct else errors[0] @ back[layer]
        errors.insert(0, sent * (1 - posts[place] ** 2))
    found: dict[str, Tensor] = {}
    for layer, pre, own in zip(("fc1", "fc2", "fc3"), pres, errors, strict=True):
        found[f"{layer}.weight"] = torch.einsum("no,ni->oi", own, pre) / len(x)
        found[f"{layer}.bias"] = own.mean(0)
    return found


def back_by_weights(
    w: dict[str, Tensor], b: dict[str, Tensor], x: Tensor, label: Tensor
) -> dict[str, Tensor]:
    return _errors(w, {layer: w[f"{layer}.weight"] for layer in ("fc2", "fc3")}, x, label, direct=False)


def back_by_feedback(
    w: dict[str, Tensor], b: dict[str, Tensor], x: Tensor, label: Tensor
) -> dict[str, Tensor]:
    return _errors(
        w, {layer: b[f"fa.B.{layer}.weight.1"] for layer in ("fc2", "fc3")}, x, label, direct=False
    )


def direct(w: dict[str, Tensor], b: dict[str, Tensor], x: Tensor, label: Tensor) -> dict[str, Tensor]:
    back = {"fc1": b["dfa.B.fc1#0.1"], "fc2": b["dfa.B.fc2#1.1"]}
    return _errors(w, back, x, label, direct=True)


CASES: tuple[tuple[str, str, ByHand], ...] = (
    ("hebb", LAYER, hebb),
    ("oja", LAYER, oja),
    ("sanger", LAYER, sanger),
    ("backprop_written", MLP, back_by_weights),
    ("fa", MLP, back_by_feedback),
    ("dfa", MLP, direct),
)


def measured(name: str, network: str, by_hand: ByHand, data: Path) -> tuple[str, ...]:
    """Return the row of one rule; ours and theirs are held to the same directions first."""
    loss = "mean(digit ^ 2)" if network is LAYER else "cross_entropy"
    plan = prepare(experiment(network + EXPERIMENT.replace("RULE", name).replace("LOSS", loss)), data, "cpu")
    learner = Learner(plan, plan.trials[0])
    group = learner.groups[0]
    group.network.train()
    x, label = plan.train.inputs[0], plan.train.target
    weights = {key: p.detach() for key, p in zip(group.names, group.parameters, strict=True)}

    def ours() -> None:
        for _ in range(STEPS):
            group.rule.direction(group, plan.train, learner.streams)

    def theirs() -> None:
        for _ in range(STEPS):
            with torch.no_grad():
                found = by_hand(weights, learner.feedback, x, label)
                for key, parameter in zip(group.names, group.parameters, strict=True):
                    parameter.grad = found[key]

    ours()
    mine = [p.grad.clone() for p in group.parameters if p.grad is not None]
    theirs()
    for own, parameter in zip(mine, group.parameters, strict=True):
        torch.testing.assert_close(own, parameter.grad, rtol=1e-3, atol=1e-6)
    times = seconds({"ours": ours, "theirs": theirs}, ROUNDS)
    first, second = times["ours"], times["theirs"]
    return name, f"{1e3 * first / STEPS:.2f} ms", f"{1e3 * second / STEPS:.2f} ms", f"{first / second:.2f}"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        drawn = numpy.random.default_rng(0)
        image = drawn.standard_normal((ROWS, 784)).astype("float32")
        numpy.savez(Path(folder) / "data.npz", image=image, label=drawn.integers(0, 10, ROWS))
        rows = [measured(name, network, by_hand, Path(folder)) for name, network, by_hand in CASES]
    print(table(("rule", "ours", "by hand", "ratio"), rows))


if __name__ == "__main__":
    main()
