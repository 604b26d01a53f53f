"""The parser: soft keywords, different trees for different texts, recovery, limits, never a traceback."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lark import Lark

from nnspec.dsl.diagnostics import Bag, Error
from nnspec.dsl.grammar import Newlines, grammar_text, parser
from nnspec.dsl.parse import parse
from nnspec.dsl.render import to_json, to_line, to_text
from nnspec.dsl.source import Source
from nnspec.dsl.syntax import File
from nnspec.dsl.tree import TreeBuilder


def tree(text: str) -> File:
    bag = Bag()
    file = parse(Source("t.nnspec", text), bag)
    assert not bag.failed, list(bag)
    return file


def errors(text: str) -> list[Error]:
    bag = Bag()
    parse(Source("t.nnspec", text), bag)
    return list(bag)


def test_the_grammar_has_no_conflict() -> None:
    Lark(grammar_text(), parser="lalr", lexer="contextual", strict=True, postlex=Newlines())


def test_every_rule_of_the_grammar_builds_a_node() -> None:
    for rule in parser().rules:
        name = rule.alias or rule.origin.name
        inlined = name.startswith("_") or (rule.alias is None and rule.options.expand1)
        assert inlined or hasattr(TreeBuilder, name), name


def test_the_samples_use_every_rule_of_the_grammar(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[str] = set()
    build = TreeBuilder.build

    def recorded(self: TreeBuilder, tree: Any) -> Any:
        used.add(getattr(tree, "data", ""))
        return build(self, tree)

    monkeypatch.setattr(TreeBuilder, "build", recorded)
    for text in texts:
        tree(text)
    named = {
        rule.alias or rule.origin.name for rule in parser().rules if rule.alias or not rule.options.expand1
    }
    assert {name for name in named if not name.startswith("_")} - used == set()


SOFT = "input output state shared parameter buffer update penalty constrain initialize require expect over connect dynamics"


@pytest.mark.parametrize(
    "word", [*SOFT.split(), "network", "layer", "rule", "use", "let", "every", "as", "rest"]
)
def test_keywords_are_soft(word: str) -> None:
    tree(
        f"network n {{\n  input x: real[3]\n  {word} = x -> relu\n  output y = {word} + {word} -> f({word} = 2)\n}}\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "experiment e {\n  train = 1\n  train rest {\n    train = 2\n  }\n}",
        "rule r {\n  phase = x\n  feedback = y\n  phase p = settle(3)\n}",
        "layer f(learn: int, learn learn: int, network: layer, in: real = 1) {\n}",
        "let rest = language + every",
        "let a = x -> trained(e).part(3) as h",
        "let a = repeat[3].f.weight + trained(e).part",
    ],
)
def test_words_and_references_that_are_fine(text: str) -> None:
    tree(text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("let a = b iffoo else c", "iffoo"),
        ("let a = b if c elsewhere", "elsewhere"),
        ("let a = f(x) orange y", "orange"),
        ("layer f(x int) {\n}", "int"),
        ("let a = 0x1F", "0x1F"),
        ("let a = 1_", "1_"),
        ("let a = 3if b else c", "3if"),
    ],
)
def test_words_are_never_taken_apart(text: str, word: str) -> None:
    [error] = errors(text)
    assert error.code == "N0102" and f"`{word}`" in str(error.message)


DIFFERENT = [
    ("let a = x", "let a = not x"),
    ("network n {\n constrain dense.weight: b\n}", "network n {\n constrain every dense.weight: b\n}"),
    ("network n {\n connect x -> y\n}", "network n {\n connect x <-> y\n}"),
    ("network n {\n connect x -> [y]\n}", "network n {\n connect x -> y\n}"),
    ("let a = x -> repeat(2) { f }", "let a = x -> fork(2) { f }"),
    ("let a = 1000", "let a = 1_000"),
    ("let a = a - b - c", "let a = a - (b - c)"),
    ("let a = -x ^ 2", "let a = (-x) ^ 2"),
    ("let a = x -> [f, g]", "let a = x -> [f -> g]"),
    ("let a = x -> f -> g", "let a = x -> (f -> g)"),
    ("let a = x -> f as b", "let a = x -> f"),
    ("let a = [1, 2]", "let a = [1, 2, 2]"),
    ("let a = x[0..3]", "let a = x[0..]"),
    ("let a = x[..3]", "let a = x[0..3]"),
    ("let a = f(x)", "let a = f(x = 1)"),
    ("let a = f(plus: x)", "let a = f(x)"),
    ('let a = f("p" = 1)', "let a = f(p = 1)"),
    ("network n {\n expect a == 1\n}", "network n {\n expect a == 1 +- 0.1\n}"),
    ("network n {\n input x: real\n}", "network n {\n input x: real[]\n}"),
    ("network n {\n input x: real[T]\n}", "network n {\n input x: real[T: T]\n}"),
    ("network n {\n input x: real[.., T]\n}", "network n {\n input x: real[T]\n}"),
    ("layer f(a: int) {\n}", "layer f(learn a: int) {\n}"),
    ("rule r {\n update w += a\n}", "rule r {\n update w -= a\n}"),
    ("dynamics d {\n s = a\n}", "dynamics d {\n s' = a\n}"),
    ("constraint c {\n w => w\n}", "constraint c {\n project w => w\n}"),
    ("experiment e {\n train a.b { lr = 1 }\n}", "experiment e {\n train rest { lr = 1 }\n}"),
    ("experiment e {\n a = 1\n}", "experiment e = f {\n a = 1\n}"),
]


@pytest.mark.parametrize(("one", "two"), DIFFERENT)
def test_different_texts_give_different_trees(one: str, two: str) -> None:
    assert tree(one) != tree(two)
    assert tree(one) == tree(f"# a comment\n\n{one}  # another\n")


def test_lines_continue_where_an_operator_begins_the_next() -> None:
    one = tree("let a = x\n  -> f  # c\n\n  -> g\n")
    assert one == tree("let a = x -> f -> g")
    assert tree("let a = x\n  + y\n  * z") == tree("let a = x + y * z")
    assert tree("let a = f(\n  1,\n  2,\n)") == tree("let a = f(1, 2)")


def test_several_mistakes_give_one_error_each_on_the_right_line() -> None:
    text = """netwrk foo {
  input x: real[3]
}

network m {
  inptu x: real[8]
  a =
  b = 3 +
  c = x -> dense(4
  d = x -> -> relu
  e = x) -> relu
  f = 'abc'
  g = x -> dense(4, 5 6)
  output y = x
}

experiment e {
  epochs = = 3
  data = digits(test = 0.2
  loss = cross_entropy
}
"""
    found = [(error.code, error.span.line) for error in errors(text) if error.span]
    assert found == [
        ("N0106", 1),
        ("N0106", 6),
        ("N0103", 7),
        ("N0103", 8),
        ("N0104", 9),
        ("N0102", 10),
        ("N0105", 11),
        ("N0101", 12),
        ("N0102", 13),
        ("N0102", 18),
        ("N0104", 19),
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("(" * 100_000, "N0102"),
        ("let a = " + "-" * 100_000 + "x", "N0502"),
        ("let a = " + "a + " * 100_000 + "a", "N0502"),
        ("let a = " + "[" * 3000 + "]" * 3000, "N0502"),
        ("let a = " + "x => " * 3000 + "x", "N0502"),
        ("let a = x" + "[0]" * 3000, "N0502"),
        ("let a = x" + ".b" * 3000, "N0502"),
        ("let a = " + "not " * 3000 + "x", "N0502"),
        ("let a = " + "a if b else " * 3000 + "x", "N0502"),
        ("let a = " + "9" * 100_000, "N0503"),
        ("let a = 1e999", "N0503"),
        ("network n {\n" * 3000, "N0104"),
        ("", "N0110"),
        ("# only a comment\n", "N0110"),
        ("let a = 1\n" * 300_000, "N0501"),
    ],
)
def test_limits(text: str, code: str) -> None:
    assert code in [error.code for error in errors(text)]


def test_too_many_words_and_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnspec.dsl.parse._MOST_TOKENS", 1000)
    assert [error.code for error in errors("let a = [" + "1," * 1000 + "1]")] == ["N0501"]


def check_never_raises(text: str) -> None:
    for error in errors(text):
        assert to_text(error, colour=True)
        assert to_line(error)
        assert to_json(error)


@given(st.text(max_size=200))
def test_any_text_gives_diagnostics(text: str) -> None:
    check_never_raises(text)


@given(st.data())
def test_any_tokens_give_diagnostics(tokens: tuple[str, ...], data: st.DataObject) -> None:
    check_never_raises(" ".join(data.draw(st.lists(st.sampled_from(tokens), max_size=40))))


@settings(max_examples=150)
@given(st.randoms(use_true_random=False))
def test_mutations_of_specs_give_diagnostics(
    texts: list[str], mutate: Callable[[str, random.Random], str], chance: random.Random
) -> None:
    check_never_raises(mutate(chance.choice(texts), chance))


def test_every_spec_there_is_parses(texts: list[str]) -> None:
    assert len(texts) > 30
    for text in texts:
        tree(text)
