"""The standard library: files of the language that come with it, by the names of its parts.

`use library.blocks` reads `library/blocks.nnspec`. Nothing here is read before somebody asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

_DEFINITION = re.compile(r"^(?:layer|network|activation|constraint|dynamics|rule) ([^\W\d]\w*)", re.MULTILINE)
_RULE = re.compile(r"^rule ([^\W\d]\w*)", re.MULTILINE)


@lru_cache(maxsize=1)
def parts() -> Mapping[str, Path]:
    """Return the file of each part of the library."""
    folder = Path(str(files("nnspec.dsl"))) / "library"
    return {path.stem: path.resolve() for path in sorted(folder.glob("*.nnspec"))}


@lru_cache(maxsize=1)
def rules() -> Mapping[str, str]:
    """Return in which part of the library each of its learning rules stands."""
    texts = {part: path.read_text(encoding="utf-8") for part, path in parts().items()}
    return {name: part for part, text in texts.items() for name in _RULE.findall(text)}


@lru_cache(maxsize=1)
def defined() -> Mapping[str, str]:
    """Return in which part of the library each of its definitions stands."""
    texts = {part: path.read_text(encoding="utf-8") for part, path in parts().items()}
    return {name: part for part, text in texts.items() for name in _DEFINITION.findall(text)}
