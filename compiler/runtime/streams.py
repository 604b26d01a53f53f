"""The random streams of one training.

In `streams` mode each name has its own generator, seeded from the trial's seed and restart; torch's global
generators, from which initialisation and dropout draw, are seeded from the streams "init" and "forward".
In `torch` mode they are seeded once with the seed itself and everything draws from them, as in a plain
script. `kept_generators` leaves torch as it was found.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from nnspec.compiler.runtime.seeds import stream_seed
from nnspec.compiler.runtime.trials import Trial

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Drawn = TypeVar("Drawn")
_GLOBAL = "torch."  # the global generators' place among the states


class Streams:
    """Named generators on the CPU; `device` says which global generator a forward draws from."""

    def __init__(self, trial: Trial, mode: str, device: torch.device) -> None:
        self.trial = trial
        self.mode = mode
        self.device = device
        self._generators: dict[str, torch.Generator] = {}
        self._own: torch.Generator | None = None

    def begin(self, name: str) -> None:
        """Let the global generators draw from this stream; in `torch` mode only "init" begins anything."""
        import torch

        if self.mode == "streams":
            torch.manual_seed(self._seed(name))
        elif name == "init":
            torch.manual_seed(self._seed(None))

    @contextmanager
    def apart(self, name: str) -> Generator[None]:
        """Let the global generators draw from this stream's beginning, and leave them as they were found.

        So that what is measured along the way changes no draw of the training, and is the same each time it is
        measured. In `torch` mode everything draws on, as in a plain script.
        """
        if self.mode == "torch":
            yield
            return
        before = global_states(self.device)
        self.begin(name)
        try:
            yield
        finally:
            set_global_states(self.device, before)

    def _seed(self, name: str | None) -> int:
        """Return the seed of a stream, or (None) the one that everything draws from in `torch` mode."""
        seed, restart = self.trial
        if name is None:
            return stream_seed(seed, f"restart {restart}") if restart else seed
        return stream_seed(seed, f"{name}, restart {restart}" if restart else name)

    def generator(self, name: str) -> torch.Generator | None:
        """Return the generator of a stream; None stands for torch's global one."""
        import torch

        if self.mode == "torch":
            return self._own
        if name not in self._generators:
            self._generators[name] = torch.Generator().manual_seed(self._seed(name))
        return self._generators[name]

    def leave_global(self) -> None:
        """In `torch` mode, go on from where the CPU's global generator stands, but apart from it.

        So that several trainings can take turns.
        """
        import torch

        if self.mode == "torch":
            self._own = torch.Generator()
            self._own.set_state(torch.get_rng_state())

    def permutation(self, name: str, count: int) -> Tensor:
        """Return a random order of `count` things, on the CPU."""
        import torch

        return torch.randperm(count, generator=self.generator(name))

    def normal(self, name: str, like: Tensor) -> Tensor:
        """Return normal numbers in the shape of a tensor, on its device.

        Drawn on the CPU, so that every device sees the same ones.
        """
        import torch

        drawn = torch.randn(like.shape, generator=self.generator(name), dtype=like.dtype)
        return drawn.to(like.device)

    def drawn(self, name: str, make: Callable[[], Drawn]) -> Drawn:
        """Return what `make` makes while torch's own generator of the CPU draws from a stream."""
        import torch

        generator = self.generator(name)
        if generator is None:
            return make()
        before = torch.get_rng_state()
        try:
            torch.set_rng_state(generator.get_state())
            found = make()
            generator.set_state(torch.get_rng_state())
        finally:
            torch.set_rng_state(before)
        return found

    def states(self) -> dict[str, Tensor]:
        """Return the states of all generators, the global ones too."""
        found = {name: generator.get_state() for name, generator in self._generators.items()}
        return found | {_GLOBAL + kind: state for kind, state in global_states(self.device).items()}

    def restore(self, states: dict[str, Tensor]) -> None:
        """Set all generators to states that `states` returned; streams that had not begun then begin anew."""
        self._generators = {name: own for name, own in self._generators.items() if name in states}
        for name, state in states.items():
            if not name.startswith(_GLOBAL):
                generator = self.generator(name)
                if generator is not None:
                    generator.set_state(state)
        kinds = {name.removeprefix(_GLOBAL): s for name, s in states.items() if name.startswith(_GLOBAL)}
        set_global_states(self.device, kinds)

    # Of trainings that take turns, whose global generators stand for nothing.

    def own_states(self) -> dict[str, Tensor]:
        """Return the states of the generators that are this training's own, under the names of `states`."""
        if self._own is not None:
            return {_GLOBAL + "cpu": self._own.get_state()}
        found = {name: generator.get_state() for name, generator in self._generators.items()}
        if "forward" in found:  # of a training by itself, the global generator
            found[_GLOBAL + "cpu"] = found["forward"]
        return found

    def restore_own(self, states: dict[str, Tensor]) -> None:
        """Set the generators to states that `own_states` returned."""
        for name, state in states.items():
            generator = self._own if name.startswith(_GLOBAL) else self.generator(name)
            if generator is not None:
                generator.set_state(state)


class Noted(Streams):
    """Streams that note what is drawn from them, as (method, arguments)."""

    def __init__(self, trial: Trial, mode: str, device: torch.device) -> None:
        super().__init__(trial, mode, device)
        self.notes: list[tuple[str, tuple[Any, ...]]] = []

    def permutation(self, name: str, count: int) -> Tensor:
        self.notes.append(("permutation", (name, count)))
        return super().permutation(name, count)

    def normal(self, name: str, like: Tensor) -> Tensor:
        self.notes.append(("normal", (name, like)))
        return super().normal(name, like)

    def drawn(self, name: str, make: Callable[[], Drawn]) -> Drawn:
        self.notes.append(("drawn", (name, make)))
        return super().drawn(name, make)


class Given(Streams):
    """Streams that give what was drawn before, in order."""

    def __init__(self, drawn: Sequence[Tensor]) -> None:
        self._left = iter(drawn)

    def permutation(self, name: str, count: int) -> Tensor:
        return next(self._left)

    def normal(self, name: str, like: Tensor) -> Tensor:
        return next(self._left)

    def drawn(self, name: str, make: Callable[[], Any]) -> Any:
        return next(self._left)


def global_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's generators: the CPU's and the device's."""
    import torch

    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["mps"] = torch.mps.get_rng_state()
    return found


def set_global_states(device: torch.device, states: dict[str, Tensor]) -> None:
    """Set torch's generators to states that `global_states` returned."""
    import torch

    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    if "mps" in states and device.type == "mps":
        torch.mps.set_rng_state(states["mps"])


@contextmanager
def kept_generators(device: torch.device) -> Generator[None]:
    """Leave torch's generators as they were."""
    before = global_states(device)
    try:
        yield
    finally:
        set_global_states(device, before)
