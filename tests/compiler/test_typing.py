"""What the type stage refuses, with the places it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Refuse = Callable[[str], list[Any]]


def only(errors: list[Any], code: str) -> Any:
    assert [error.code for error in errors] == [code], errors
    return errors[0]


def related(error: Any) -> str:
    return "\n".join(f"{item.span.line}: {item.label}" for item in error.related)


def test_a_shape_error_in_a_layer_shows_the_use_and_the_origin(refuse: Refuse) -> None:
    error = only(
        refuse("""
layer f(width: int) {
  input x: real[.., width]
  output y = x + (x -> dense(width + 1))
}
network n {
  input x: real[4]
  output y = x -> f(4)
}
"""),
        "N0401",
    )
    assert error.span.line == 4
    assert "8: in this use of `f`" in related(error)
    assert "4: `dense` makes 5 here" in related(error)


def test_one_cause_gives_one_message(refuse: Refuse) -> None:
    errors = refuse("""
network n {
  input x: real[4]
  a = x + (x -> dense(5))
  b = a -> dense(3)
  output y = a + b -> relu
}
""")
    assert only(errors, "N0401").span.line == 4


def test_several_causes_give_several_messages(refuse: Refuse) -> None:
    errors = refuse("""
network n {
  input x: real[4]
  a = x + (x -> dense(5))
  b: real[7] = x -> dense(3)
  output y: real[9] = x -> dense(8)
}
""")
    assert [(e.code, e.span.line) for e in errors] == [("N0401", 4), ("N0402", 5), ("N0402", 6)]


def test_input_of_a_layer_that_does_not_fit(refuse: Refuse) -> None:
    error = only(
        refuse("""
layer f(width: int) {
  input x: real[width]
  output y = x -> relu
}
network n {
  input x: real[5, 4]
  output y = x -> f(4)
}
"""),
        "N0401",
    )
    assert error.span.line == 8
    assert "real[.., width" in error.help


def test_a_requirement_shows_its_values_and_the_use(refuse: Refuse) -> None:
    error = only(
        refuse("""
layer f(heads: int) {
  input x: real[n]
  require n % heads == 0, "heads must divide the width"
  output y = x -> relu
}
network n {
  input x: real[10]
  output y = x -> f(3)
}
"""),
        "N0405",
    )
    assert error.message == "heads must divide the width"
    assert "1 == 0 is false" in error.label
    assert "9: in this use of `f`" in related(error)


def test_repeat_whose_body_changes_the_shape(refuse: Refuse) -> None:
    errors = refuse("""
layer half {
  input x: real[4]
  output y = x -> dense(2)
}
network n {
  input x: real[4]
  output y = x -> repeat(2) { half }
}
""")
    error = only(errors, "N0401")
    assert "repeat[1]" in related(error)


def test_shared_instances_need_one_shape(refuse: Refuse) -> None:
    error = only(
        refuse("""
network n {
  input a: real[4]
  input b: real[5]
  shared enc = dense(3)
  output y = (a -> enc) + (b -> enc)
}
"""),
        "N0403",
    )
    assert error.expected == "weight [3, 4], bias [3]"
    assert error.found == "weight [3, 5], bias [3]"
