"""The ways to run a phase, by the word of the language."""

from __future__ import annotations

from nnspec.compiler.rules.settled.way import Settles
from nnspec.compiler.rules.written.forward import Forward
from nnspec.compiler.rules.written.phase import Way
from nnspec.compiler.rules.written.relax import Relax

WAYS: dict[str, Way] = {"forward": Forward(), "relax": Relax(), "settle": Settles()}
