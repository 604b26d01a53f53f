"""Python names for what a spec names: safe in emitted code, and the same in state-dict keys.

A name that Python or torch keeps for itself gets an underscore: `class_`, `forward_`. Attribute names
depend on nothing but the name, so that a path always has the same state-dict key.
"""

from __future__ import annotations

import builtins
import keyword
import re

# What `nn.Module` itself answers to; a test compares with torch.
MODULE_ATTRIBUTES = frozenset(
    re.findall(
        r"\w+",
        """
        T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double
        dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule
        half ipu load_state_dict modules mtia named_buffers named_children named_modules
        named_parameters parameters
        register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
        register_full_backward_hook register_full_backward_pre_hook
        register_load_state_dict_post_hook
        register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
        register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to
        to_empty train training type xpu zero_grad
        """,
    )
)

# What a `torch.fx.GraphModule`, which an exported program is, answers to beside these.
GRAPH_ATTRIBUTES = frozenset(
    re.findall(
        r"\w+",
        """add_submodule code delete_all_unused_submodules delete_submodule graph meta print_readable recompile
        shape_env to_folder""",
    )
)

# Words that emitted code uses itself.
EMITTED_WORDS = frozenset(
    (
        "self",
        "torch",
        "F",
        "nn",
        "math",
        "Tensor",
        "Callable",
        "parameters",
        "prefix",
        "training",
        "ctx",
        "dtype",
        "partial",
        "warnings",
    )
)

_KEYWORDS = frozenset(keyword.kwlist)
_ATTRIBUTE_WORDS = _KEYWORDS | MODULE_ATTRIBUTES | GRAPH_ATTRIBUTES | {"self", "penalties"}
_VARIABLE_WORDS = _KEYWORDS | frozenset(dir(builtins)) | EMITTED_WORDS


def attribute(name: str) -> str:
    """Return the attribute of a module under which a child of this name stands."""
    found = _identifier(name)
    # Names that begin with an underscore are torch's own business.
    return f"{found}_" if found.startswith("_") else _avoid(found, _ATTRIBUTE_WORDS)


def variable(name: str) -> str:
    """Return a name for a local variable."""
    return _avoid(_identifier(name), _VARIABLE_WORDS)


def class_name(name: str) -> str:
    """Return the name of a class: `residual_block` gives `ResidualBlock`."""
    parts = [part for part in _ascii(name).split("_") if part]
    found = "".join(part[0].upper() + part[1:] for part in parts) or "Block"
    found = found if found[0].isalpha() else f"Block{found}"
    return f"{found}Layer" if found in _VARIABLE_WORDS or found == "Module" else found


class Names:
    """Hands out names that are not taken yet."""

    def __init__(self, taken: frozenset[str] | set[str] = frozenset()) -> None:
        self.taken = set(taken)

    def claim(self, wanted: str) -> str:
        """Return `wanted`, numbered if it is taken, and take it."""
        name, count = wanted, 1
        while name in self.taken:
            count += 1
            name = f"{wanted}{'' if wanted[0].isupper() else '_'}{count}"
        self.taken.add(name)
        return name


def _ascii(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"_u{ord(c):x}_" for c in name)


def _identifier(name: str) -> str:
    """Return an identifier; different names give different ones."""
    plain = _ascii(re.sub(r"_(?=u[0-9a-f]*_)", "_u5f_", name))
    if not plain or plain[0].isdigit():
        plain = f"_u{ord(plain[0]):x}_{plain[1:]}" if plain else "_u_"
    # A class would mangle names that begin with two underscores.
    return f"u{plain}" if re.match(r"u*__", plain) else plain


def _avoid(name: str, words: frozenset[str]) -> str:
    """Append an underscore to a kept word, and one more to what would then look like it."""
    stem = name.rstrip("_")
    return f"{name}_" if name in words or (stem != name and stem in words) else name
