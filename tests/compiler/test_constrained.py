"""What is listed of the weights under constraints: in derived networks, layers and copies."""

from __future__ import annotations

from nnspec.compiler.diagrams.architecture import draw
from nnspec.compiler.passes.cost import cost_table
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

SPEC = """
layer part(width: int) {
  input  x: real[n]
  output y = x -> dense(width) as inner
  constrain inner.weight: nonnegative
}
network plain {
  input  x: real[6]
  output y = x -> part(4) -> repeat(2) { dense(4) -> tanh } -> dense(3) as head
}
network derived = plain {
  constrain repeat[1].dense.weight: low_rank(1)
  constrain head.*: max_norm(2) & l1(0.5)
  constrain part.inner.bias: frozen
}
"""


def test_every_constrained_weight_is_listed() -> None:
    bag = Bag()
    checked = check(Source("test.nnspec", SPEC), bag)
    assert not bag.failed
    graph = checked.graph(checked.networks()[-1], {})
    assert graph is not None
    found = {own.path: own for own in cost_table(graph).constraints}
    assert list(found) == [
        *("part.inner.weight", "part.inner.bias", "repeat[1].dense.weight", "head.weight", "head.bias")
    ]
    copy, head = found["repeat[1].dense.weight"], found["head.weight"]
    assert copy.text == "low_rank(rank = 1)" and copy.entries == 16
    assert copy.stored == 8 and copy.free == 7 and copy.main is None
    assert head.text == "max_norm(bound = 2) & l1(strength = 0.5)" and head.free == head.stored == 12
    frozen = found["part.inner.bias"]
    assert frozen.stored == 0 == frozen.free
    assert found["part.inner.weight"].json()["stored"] == [
        {"name": "weight", "shape": [4, 6], "kind": "learned", "dtype": "real"}
    ]


FOLLOWING = """
layer enc(width: int) {
  input  x: real[n]
  output y = x -> dense(width) as a -> tanh -> dense(width) as b
}
network net {
  input  x: real[2]
  shared online = dense(4)
  shared target = follow(online, every = 500)
  shared pupil = enc(4)
  shared teacher = follow(pupil, decay = 0.99)
  output y = online(x) + target(x)
  output z: real[2] = concat(pupil(x), teacher(x)) -> dense(2)
  constrain pupil.a.weight: binary
}
"""


def test_what_follows_says_whom() -> None:
    bag = Bag()
    checked = check(Source("test.nnspec", FOLLOWING), bag)
    graph = checked.graph(checked.networks()[-1], {})
    assert graph is not None and not bag.failed
    found = {own.path: own.text for own in cost_table(graph).constraints}
    assert found["target.weight"] == "follows online every 500"
    assert found["teacher.a.weight"] == "binary & follows pupil with decay 0.99"
    assert found["pupil.a.weight"] == "binary"
    drawn = draw(graph)
    assert "follows online every 500" in drawn and "follows pupil with decay 0.99" in drawn


def test_coordinates_are_no_latent_weights() -> None:
    text = "network n {\n  input  x: real[4]\n  output y = x"
    words = ("binary", "quantize(bits = 2)", "spectral(1)", "sparse(0.5)", "orthogonal", "skew", "symmetric")
    text += "".join(f" -> dense(4) as l{index}" for index in range(len(words))) + "\n"
    text += "".join(f"  constrain l{index}.weight: {word}\n" for index, word in enumerate(words)) + "}\n"
    bag = Bag()
    checked = check(Source("test.nnspec", text), bag)
    graph = checked.graph(checked.networks()[-1], {})
    assert graph is not None and not bag.failed
    found = [own.is_latent for own in cost_table(graph).constraints]
    assert found == [True, True, True, True, False, False, False]
