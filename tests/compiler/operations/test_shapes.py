"""Shape rules: what they keep of an axis, and how they say that something does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations.operation import ShapeProblem, Site
from nnspec.compiler.operations.registry import operation
from nnspec.dsl.dimensions import symbol

T = symbol("T")


def axes(*sizes: Any) -> Type:
    return Type(axes=tuple(s if isinstance(s, Axis) else Axis(size=s) for s in sizes))


def shape(name: str, *inputs: Type, **given: Any) -> tuple[Type, ...]:
    rule = operation(name)
    arguments = {argument.name: argument.default for argument in rule.arguments} | given
    return rule.shape(Site(arguments=arguments, inputs=inputs))


def problem(name: str, *inputs: Type, **given: Any) -> ShapeProblem:
    with pytest.raises(ShapeProblem) as caught:
        shape(name, *inputs, **given)
    return caught.value


def test_flatten_keeps_the_factors_of_the_new_axis() -> None:
    (found,) = shape("flatten", axes(16, 5, 5))
    assert found.shape == (400,) and found.axes[0].factors == (16, 5, 5)
    (found,) = shape("flatten", axes(T, Axis(size=6, factors=(2, 3)), 4), start=1)
    assert found.shape == (T, 24) and found.axes[1].factors == (2, 3, 4)


def test_flatten_of_one_axis_is_that_axis() -> None:
    axis = Axis(size=7, name="width")
    assert shape("flatten", axes(axis))[0].axes[0] is axis


def test_reshape_keeps_what_it_does_not_touch() -> None:
    named = Axis(size=T, name="T")
    (found,) = shape("reshape", axes(named, 64), shape=(T, 4, 16))
    assert found.axes[0] is named and found.shape == (T, 4, 16)
    (found,) = shape("reshape", axes(named, 4, 16), shape=(T, -1))
    assert found.shape == (T, 64) and found.axes[1].factors == (4, 16)
    (found,) = shape("reshape", axes(8, 8), shape=(1, 8, 8))
    assert found.axes[1:] == axes(8, 8).axes
    (found,) = shape("reshape", axes(6, 4), shape=(4, 6))
    assert found.shape == (4, 6) and not found.axes[0].factors


def test_reshape_of_a_flattened_image_finds_its_axes_again() -> None:
    (flat,) = shape("flatten", axes(16, 5, 5))
    assert shape("reshape", flat, shape=(16, 5, 5))[0].shape == (16, 5, 5)
    assert shape("reshape", flat, shape=(16, 25))[0].axes[1].factors == (5, 5)


def test_names_of_axes_choose_them() -> None:
    given = axes(Axis(size=T, name="T"), Axis(size=5, name="w"))
    assert shape("mean", given, axis="T")[0].shape == (5,)
    assert shape("permute", given, axes=("w", "T"))[0].shape == (5, T)
    assert shape("sum", axes(T, 3), axis="T")[0].shape == (3,)
    assert problem("mean", given, axis="h").message == "no axis called `h` here"
    assert "2 axes" in problem("mean", axes(T, T), axis="T").message


def test_broadcasting_stretches_only_a_literal_one() -> None:
    assert shape("add", axes(T, 5), axes(5))[0].shape == (T, 5)
    assert shape("add", axes(T, 1), axes(T, 5))[0].shape == (T, 5)
    found = problem("add", axes(T, 5), axes(symbol("S"), 5))
    assert (
        found.axes == ((0, -2), (1, -2))
        and found.help == "if T and S are always equal, declare both by one name"
    )
    found = problem("multiply", axes(4), axes(5))
    assert found.expected == "real[4], as its input 1" and found.found == "real[5], as its input 2"


def test_dense_needs_a_number_on_its_last_axis() -> None:
    found = problem("dense", axes(5, T), units=3)
    assert found.message == "the size of the last axis must be a number" and found.axes == ((0, -1),)
    assert found.found == "the symbolic dimension T" and found.help is not None and "`T`" in found.help
    assert problem("dense", Type(axes=()), units=3).found == "a single number"
    assert "embedding" in (problem("dense", axes(3).replace(dtype="int"), units=3).help or "")
    assert shape("dense", axes(T, 4), units=3)[0].shape == (T, 3)


def test_kernels_larger_than_the_image_show_the_arithmetic() -> None:
    found = problem("conv2d", axes(1, 4, 9), channels=2, kernel=5)
    assert found.message == "the kernel is larger than the image: 4 - 5 = -1" and found.axes == ((0, 1),)
    found = problem("conv2d", axes(1, 9, 4), channels=2, kernel=3, dilation=4, padding=2)
    assert found.message == "the kernel is larger than the image: 4 + 2 * 2 - 9 = -1"
    assert found.axes == ((0, 2),) and found.expected == "a size of at least 5"
    assert "4 - 5" in problem("maxpool", axes(1, 4, 4), kernel=5).message


def test_convolution_of_symbolic_images() -> None:
    (found,) = shape("conv2d", axes(3, T, T), channels=8, kernel=3)
    assert found.shape == (8, T - 2, T - 2)
    (found,) = shape("conv2d", axes(3, T, 8), channels=8, kernel=3, padding=1, stride=2)
    assert str(found.shape[1]) == "((T - 1) // 2) + 1" and found.shape[2] == 4


@pytest.mark.parametrize(
    ("name", "inputs", "given", "message"),
    [
        ("conv2d", [axes(8, 8)], {"channels": 2, "kernel": 3}, "works on images"),
        (
            "conv2d",
            [axes(3, 8, 8)],
            {"channels": 4, "kernel": 3, "groups": 2},
            "2 groups do not",
        ),
        ("conv2d", [axes(3, 8, 8)], {"channels": 4, "kernel": (3, 3, 3)}, "one number, or one for each"),
        (
            "conv2d",
            [axes(3, 8, 8)],
            {"channels": 4, "kernel": 3, "padding": "same", "stride": 2},
            '"same" padding keeps',
        ),
        ("avgpool", [axes(3, 8, 8)], {"kernel": 2, "padding": 2}, "the padding is more than half the kernel"),
        ("concat", [axes(2, 3), axes(3, 3)], {"axis": 1}, "2 and 3 differ in axis 0"),
        ("concat", [axes(2, 3), axes(3)], {}, "its inputs differ in kind or in their number of axes"),
        ("stack", [axes(2), axes(3)], {}, "2 and 3 differ in axis 0"),
        ("split", [axes(7)], {"parts": 3}, "7 is not a multiple of 3: 7 = 3 * 2 + 1"),
        ("split", [axes(7)], {"parts": (3, 3)}, "the pieces make 3 + 3 = 6"),
        ("reshape", [axes(8, 8)], {"shape": (9, 7)}, "the numbers of entries differ: 8 * 8 and 9 * 7"),
        ("reshape", [axes(8, 8)], {"shape": (-1, 7)}, "the numbers of entries differ: 8 * 8 and ? * 7"),
        ("reshape", [axes(8)], {"shape": (-1, -1)}, "only one size can be -1"),
        ("reshape", [axes(8)], {"shape": (0, 8)}, "sizes are at least 1"),
        ("permute", [axes(8, 8)], {"axes": (0, 0)}, "every axis is named once"),
        ("slice", [axes(8)], {"axis": 0, "start": 2, "stop": 8}, "entries 2 to 8 are not all there"),
        ("select", [axes(8)], {"axis": 0, "index": 8}, "there is no entry 8"),
        ("mean", [axes(8)], {"axis": 1}, "there is no axis 1"),
        ("sum", [axes(8, 2)], {"axis": (0, -2)}, "an axis is named twice"),
        ("matmul", [axes(2, 3), axes(2, 3)], {}, "the inner sizes 3 and 2 differ"),
        ("embedding", [axes(5)], {"count": 3, "width": 2}, "looks up whole numbers"),
        (
            "where",
            [axes(5)],
            {"then": 1, "otherwise": 0},
            "the condition must be true or false",
        ),
        ("add", [axes(5)], {}, "takes two values"),
        ("batchnorm", [axes(2, 3, 4, 5)], {}, "works on channels"),
        ("transpose", [axes(5)], {}, "needs two axes"),
        ("softmax", [Type(axes=())], {}, "needs at least one axis"),
    ],
)
def test_problems(name: str, inputs: list[Type], given: dict[str, Any], message: str) -> None:
    assert problem(name, *inputs, **given).message.startswith(message)


def test_number_kinds() -> None:
    whole, truth = axes(3).replace(dtype="int"), axes(3).replace(dtype="bool")
    kinds = {
        ("add", (whole, whole)): "int",
        ("multiply", (axes(3), truth)): "real",
        ("divide", (whole, whole)): "real",
        ("greater", (axes(3), axes(3))): "bool",
        ("sum", (truth,)): "int",
        ("mean", (truth,)): "real",
    }
    for (name, inputs), kind in kinds.items():
        assert shape(name, *inputs)[0].dtype == kind, name
    assert shape("multiply", whole, constant=0.5)[0].dtype == "real"


def test_slices_of_symbolic_axes() -> None:
    given = axes(T, 4)
    assert shape("slice", given, axis=0, start=0, stop=-2)[0].shape == (T - 1, 4)
    assert shape("slice", given, axis="T", start=1, stop=None)[0].shape == (T - 1, 4)
    assert shape("slice", given, axis=0, start=0, stop=None)[0] is given
    assert shape("slice", axes(8), axis=0, start=-3, stop=-2)[0].shape == (2,)
    assert "must be a number" in problem("slice", given, axis=0, start=0, stop=3).message


def test_reshape_to_sizes_that_code_cannot_tell_is_refused() -> None:
    S = symbol("S")
    assert shape("reshape", axes(T, S, 6), shape=(T, S * 2, 3))[0].shape == (T, S * 2, 3)
    assert "is not that of any axis" in problem("reshape", axes(T, S, 6), shape=(T * 2, S * 3)).message


def test_constants_are_numbers() -> None:
    assert "must be a number" in problem("add", axes(3), constant=T).message
    assert shape("add", axes(T, 3), constant=T)[0].shape == (T, 3)
    assert problem("add", axes(3), constant=True).message == "takes numbers"
