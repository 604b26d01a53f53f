"""Small networks with every kind of symmetry, for the tests of elements and of what they are used for."""

from __future__ import annotations


def net(body: str, shape: str = "real[4]") -> str:
    return f"network n {{\n  input x: {shape}\n  {body}\n}}\n"


NETS = {
    "tanh": net("output y = x -> dense(5) -> tanh -> dense(6) -> tanh -> dense(3)"),
    "relu": net("output y = x -> dense(5) -> relu -> dense(6) -> leaky_relu -> dense(3)"),
    "sigmoid": net("output y = x -> dense(5) -> sigmoid -> dense(4) -> sigmoid -> dense(3)"),
    "sigmoid and tanh": net("output y = x -> dense(5) -> sigmoid -> dense(4) -> tanh -> dense(3)"),
    "norm and sigmoid": net("output y = x -> dense(5) -> layernorm -> dense(4) -> sigmoid -> dense(3)"),
    "linear": net("output y = x -> dense(6) -> dense(5) -> dense(3)"),
    "residual": net(
        "h = x -> dense(6)\n  a = h + (h -> dense(5) -> tanh -> dense(6))\n  output y = a -> dense(3)"
    ),
    "tied": net(
        "output y = x -> dense(3, bias = false) as e -> dense(4, bias = false) as d\n"
        "  constrain d.weight: tied(e.weight, transpose = true)"
    ),
    "twice": net(
        "shared w = dense(4)\n  h = x -> dense(4) -> leaky_relu -> w -> leaky_relu -> w -> leaky_relu\n  output y = h -> dense(2)"
    ),
    "batchnorm": net("output y = x -> dense(5) -> batchnorm -> relu -> dense(3)"),
    "layernorm": net("output y = x -> dense(5) -> layernorm(affine = false) -> dense(3) -> softmax"),
    "rmsnorm": net("output y = x -> dense(5) -> rmsnorm(affine = false) -> dense(3)"),
    "squared": "constraint squared { w => w * abs(w) }\n"
    + net("output y = x -> dense(4) as b -> relu -> dense(3)\n  constrain b.weight: squared"),
    "in a band": net(
        "output y = x -> dense(6) -> tanh -> dense(6) as b -> tanh -> dense(3)\n"
        "  constrain b.weight: mask((i, j) => abs(i - j) <= 1)"
    ),
    "in blocks": net(
        "output y = x -> dense(6) -> leaky_relu -> dense(6) as b -> leaky_relu -> dense(5) -> tanh -> dense(3)\n"
        "  constrain b.weight: mask((i, j) => i // 3 == j // 3)"
    ),
    "in a ring, twice": net(
        "shared w = dense(7)\n  h = x -> dense(7) -> sigmoid -> w -> sigmoid -> w -> sigmoid\n  output y = h -> dense(2)\n"
        "  constrain w.weight: mask((i, j) => (i - j + 7) % 7 <= 1)"
    ),
    "convolution": net(
        "output y = x -> conv2d(4, kernel = 3) -> relu -> maxpool(2) -> flatten -> dense(3)", "real[2, 8, 8]"
    ),
    "joined": net(
        "a = x -> dense(5) -> tanh\n  b = x -> dense(4) -> relu\n  output y = concat(a, b) -> dense(3)"
    ),
    "layernorm with gain": net("output y = x -> dense(5) -> layernorm -> dense(3) -> tanh -> dense(2)"),
    "rmsnorm with gain": net("output y = x -> dense(4) -> rmsnorm -> dense(5) -> tanh -> dense(2)"),
    "stream": net(
        "h = x -> dense(4)\n  a = h + (h -> layernorm -> dense(5) -> gelu -> dense(4))\n  output y = a -> dense(5)"
    ),
    "heads": net(
        'q = x -> dense(6) -> rearrange("t (h d) -> h t d", h = 2)\n'
        '  k = x -> dense(6) -> rearrange("t (h d) -> h t d", h = 2)\n'
        '  v = x -> dense(4) -> rearrange("t (h d) -> h t d", h = 2)\n'
        '  output y = attention(q, k, v) -> rearrange("h t d -> t (h d)") -> dense(4)',
        "real[5, 4]",
    ),
    "gpt": "use library.transformers\n"
    + net("output y = x -> embedding(5, 6) -> gpt2_block(2, ratio = 2) -> layernorm -> dense(6)", "int[4]"),
    "llama": "use library.transformers\n"
    + net(
        "output y = x -> embedding(7, 8) -> llama_block(heads = 4, groups = 2, hidden = 5) -> rmsnorm -> dense(6)",
        "int[4]",
    ),
    "rotary heads": net(
        'q = x -> dense(8, bias = false) -> rearrange("t (h d) -> h t d", h = 2) -> rotary\n'
        '  k = x -> dense(8, bias = false) -> rearrange("t (h d) -> h t d", h = 2) -> rotary\n'
        '  v = x -> dense(4) -> rearrange("t (h d) -> h t d", h = 2)\n'
        '  output y = attention(q, k, v) -> rearrange("h t d -> t (h d)") -> dense(4)',
        "real[5, 4]",
    ),
}
