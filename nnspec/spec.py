"""Specs from Python: check, load, and what can be had from a network or an experiment.

In: a file, or the text of a spec. Out: ordinary objects of the libraries that everyone uses: torch modules,
networkx graphs, SVG text. A wrong spec raises `SpecError`, whose text is what `nnspec check` prints; a run that
fails raises `RunError`, a name that the spec does not have `UsageError`. torch is imported only by what needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Experiment as FittedExperiment
from nnspec.compiler.ir import Graph
from nnspec.compiler.pipeline import Checked
from nnspec.compiler.pipeline import check as check_source
from nnspec.dsl.definitions import Definition
from nnspec.dsl.diagnostics import Bag, Error, SpecError
from nnspec.dsl.errors.names import UndefinedName
from nnspec.dsl.load import load_source
from nnspec.dsl.source import Source
from nnspec.dsl.suggest import nearest
from nnspec.exits import UsageError

if TYPE_CHECKING:
    import networkx
    import torch

    from nnspec.compiler.claims.claim import Verdict
    from nnspec.compiler.passes.analysis import Result
    from nnspec.compiler.passes.cost import CostTable
    from nnspec.compiler.runtime.results import Progress, RunResult
    from nnspec.compiler.symmetry.record import SymmetryGroup

StrPath = str | Path


class Report:
    """What `check` found: iterate over it for the errors, print it to read them."""

    def __init__(self, errors: Iterable[Error]) -> None:
        self.errors = tuple(errors)

    @property
    def ok(self) -> bool:
        """Whether the spec is right; warnings may remain."""
        return all(error.severity != "error" for error in self.errors)

    def __iter__(self) -> Iterator[Error]:
        return iter(self.errors)

    def __len__(self) -> int:
        return len(self.errors)

    def __str__(self) -> str:
        from nnspec.dsl.render import to_text

        return "\n\n".join(to_text(error) for error in self.errors)

    def __repr__(self) -> str:
        return f"Report({', '.join(repr(error) for error in self.errors)})"

    def json(self) -> dict[str, Any]:
        """Return what `nnspec check --format json` prints."""
        from nnspec.dsl.render import to_json

        return {"diagnostics": [to_json(error) for error in self.errors]}


def check(text_or_path: StrPath, *, allow: Iterable[StrPath] = ()) -> Report:
    """Return every error of a spec, given as a path or as text.

    A `str` is taken as text if it has a line break or a brace. `allow` lists folders, beside the spec's own,
    that `use` may read.
    """
    bag = Bag()
    source = _source(text_or_path, bag)
    if source is not None:
        check_source(source, bag, folders=_folders(allow))
    return Report(bag)


def load(text_or_path: StrPath, *, allow: Iterable[StrPath] = ()) -> Spec:
    """Return a spec that has been checked; raise `SpecError` with every error if it is wrong."""
    bag = Bag()
    source = _source(text_or_path, bag)
    checked = None if source is None else check_source(source, bag, folders=_folders(allow))
    if checked is None or bag.failed:
        raise SpecError(tuple(bag))
    return Spec(checked)


def _source(text_or_path: StrPath, bag: Bag) -> Source | None:
    if isinstance(text_or_path, str) and ("\n" in text_or_path or "{" in text_or_path):
        return Source("<text>", text_or_path)
    return load_source(Path(text_or_path), bag)


def _folders(allow: Iterable[StrPath]) -> tuple[Path, ...]:
    return tuple(Path(folder) for folder in allow)


class Spec:
    """A checked spec; `networks` and `experiments` are the names that its file defines, in order."""

    def __init__(self, checked: Checked) -> None:
        self.checked = checked

    @property
    def name(self) -> str:
        return self.checked.source.name

    @property
    def folder(self) -> Path:
        """The folder that the spec's paths start from."""
        path = self.checked.source.path
        return Path.cwd() if path is None else path.parent

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(definition.name for definition in self.checked.networks())

    @property
    def experiments(self) -> tuple[str, ...]:
        return tuple(experiment.name for experiment in self.checked.experiments)

    def network(self, name: str | None = None, /, **parameters: Any) -> Network:
        """Return a network, the last one of the file by default; `parameters` override its defaults."""
        definition = self._definition(name)
        bag = self.checked.bag
        before = len(bag)
        graph = self.checked.graph(definition, parameters)
        if graph is None:
            raise SpecError(tuple(bag)[before:] or tuple(bag))
        return Network(graph)

    def experiment(self, name: str | None = None, /) -> Experiment:
        """Return an experiment; the name may be left out if there is only one."""
        return Experiment(self, self._experiment(name))

    def claims(self) -> tuple[Verdict, ...]:
        """Return whether each claim about the file's networks holds, those about symmetry too."""
        return tuple(verdict for claimed in self.checked.claimed for verdict in claimed.verdicts())

    def nothing_called(self, name: str) -> Error:
        """Return the diagnostic that the file has no network and no experiment of a name; it lists those it has."""
        from nnspec.dsl.errors.command_line import NoSuchNetwork

        choices = _choices(name, (*self.networks, *self.experiments))
        return NoSuchNetwork(None, file=self.name, what="network and no experiment", name=name, help=choices)

    def _definition(self, name: str | None) -> Definition:
        from nnspec.dsl.errors.command_line import NoNetwork, NoSuchNetwork

        if name is None and not self.networks:
            raise UsageError(NoNetwork(None, file=self.name))
        found = self.checked.network(self.networks[-1] if name is None else name)
        if found is None:
            raise UsageError(
                NoSuchNetwork(
                    None, file=self.name, what="network", name=name, help=_choices(name, self.networks)
                )
            )
        return found

    def _experiment(self, name: str | None) -> FittedExperiment:
        from nnspec.dsl.errors import command_line as errors

        found = {experiment.name: experiment for experiment in self.checked.experiments}
        if not found:
            raise UsageError(errors.NoExperiment(None, file=self.name))
        if name is None and len(found) > 1:
            names, first = ", ".join(found), next(iter(found))
            raise UsageError(
                errors.WhichExperiment(None, file=self.name, count=len(found), names=names, first=first)
            )
        if name is not None and name not in found:
            choices = _choices(name, self.experiments)
            raise UsageError(errors.NoSuchExperiment(None, file=self.name, name=name, help=choices))
        return next(iter(found.values())) if name is None else found[name]

    def __repr__(self) -> str:
        return f"Spec({self.name}: networks {list(self.networks)}, experiments {list(self.experiments)})"


def _choices(name: str | None, known: tuple[str, ...]) -> str | None:
    from nnspec.dsl.suggest import nearest

    near = nearest(name or "", known)
    if near is not None:
        return f"did you mean `{near}`?"
    return f"it has {', '.join(f'`{one}`' for one in known)}" if known else None


class Network:
    """A network with its parameters given: an analysis of it, a picture, or a module to train."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @property
    def name(self) -> str:
        return self.graph.name

    def torch(self, seed: int | None = None) -> torch.nn.Module:
        """Return a new module, initialised from torch's generator, which `seed` sets first, as in a plain script.

        An experiment with `seed_mode = "torch"` begins with the weights of its seed; with `"streams"` it begins with others,
        whose stream no other draw of the run can shift.
        """
        from nnspec.compiler.emit.load import module

        if seed is not None:
            import torch

            torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
        return module(self.graph)

    def function(self) -> Callable[..., Any]:
        """Return `forward(parameters, *inputs, training=False)`, a pure function of a flat dict of tensors."""
        from nnspec.compiler.emit.load import function

        return function(self.graph)

    def source(self) -> str:
        """Return the Python text of the module, which needs torch and nothing of nnspec."""
        from nnspec.compiler.emit.torch import emit

        return emit(self.graph)

    def cost(self) -> CostTable:
        """Return parameters, bytes and operations of every layer."""
        from nnspec.compiler.passes.cost import cost_table

        return cost_table(self.graph)

    def show(self) -> None:
        """Print the layers as a table, as `nnspec show` does."""
        from nnspec.tables import print_network

        print_network(self.cost())

    def analyze(self, analysis: str, /, **options: Any) -> Result:
        """Run an analysis pass, `net.analyze("symmetry", verify=True)`, over the network at initialisation."""
        from nnspec.compiler.passes.analysis import Subject
        from nnspec.compiler.passes.registry import find, passes

        if analysis not in passes():
            near = nearest(analysis, tuple(passes()))
            raise UsageError(UndefinedName(None, name=analysis, suggestion=near))
        return find(analysis).run(Subject(graph=self.graph), _options(analysis, options))

    def symmetry_group(self) -> SymmetryGroup:
        """Return the derived symmetry group: wires, factors, order, dimension by family."""
        from nnspec.compiler.symmetry.group import symmetry_group

        return symmetry_group(self.graph)

    def symmetry(self) -> networkx.MultiGraph[str]:
        """Return the wires, parameters and operations as a networkx graph with their symmetry groups."""
        from nnspec.compiler.symmetry.graph import symmetry_graph

        return symmetry_graph(self.symmetry_group())

    def dot(self, *, view: str = "architecture", depth: int | None = None, theme: str = "light") -> str:
        """Return the picture in the DOT language; blocks deeper than `depth` are one node each.

        `view` is "architecture", "symmetry" (wires coloured by what acts on them) or "neurons" (units as dots; raises
        SpecError for a network that has too many).
        """
        if view == "architecture":
            from nnspec.compiler.diagrams.architecture import draw

            return draw(self.graph, depth=depth, theme=theme)
        group = self.symmetry_group()
        if view == "symmetry":
            from nnspec.compiler.diagrams.symmetry import draw_symmetry

            return draw_symmetry(self.graph, group, depth=depth, theme=theme)
        if view != "neurons":
            raise TypeError(f"there is no view {view!r}: architecture, symmetry and neurons are known")
        from nnspec.compiler.diagrams.neurons import draw_neurons

        return draw_neurons(self.graph, group, theme=theme)

    def render(
        self,
        format: str = "svg",
        *,
        view: str = "architecture",
        depth: int | None = None,
        theme: str = "light",
    ) -> str | bytes:
        """Return the picture: text for svg, html and dot, bytes for png and pdf. See `dot` for the views."""
        from nnspec.compiler.diagrams.renderer import rendered

        data = rendered(self.dot(view=view, depth=depth, theme=theme), format, title=self.name)
        return data if format in ("png", "pdf") else data.decode("utf-8")

    def __repr__(self) -> str:
        given = ", ".join(f"{name} = {value}" for name, value in self.graph.parameters)
        return f"Network({self.name}({given}))"


def _options(analysis: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a pass, complete; TypeError names the first that is wrong."""
    from nnspec.compiler.passes.registry import find
    from nnspec.dsl.catalog import validate
    from nnspec.words import read_words

    entry = find(analysis).entry()
    options, problems = validate(entry, read_words(entry, given))
    if problems:
        raise TypeError(f"{analysis}: {problems[0].why}")
    return options


class Experiment:
    """An experiment of a spec."""

    def __init__(self, spec: Spec, fitted: FittedExperiment) -> None:
        self.spec = spec
        self.fitted = fitted

    @property
    def name(self) -> str:
        return self.fitted.name

    @property
    def network(self) -> Network:
        return Network(self.fitted.graph)

    def train(
        self,
        *,
        device: str | None = None,
        out: StrPath = "runs",
        resume: bool = False,
        data_root: StrPath | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> RunResult:
        """Train all seeds; return their metrics, and write the run under the folder `out`.

        `resume` goes on where an interrupted run of the same spec, data and settings stopped. Files that the
        data set names lie under `data_root`, else under the spec's folder.
        """
        from nnspec.compiler.runtime.train import train

        return train(
            self.fitted,
            root=self.spec.folder,
            data_root=None if data_root is None else Path(data_root),
            out=Path(out),
            device=device,
            resume=resume,
            on_progress=on_progress,
        )

    def rules(self) -> dict[str, str]:
        """Return what the written rules of the experiment compute, by their names, as torch code to be read.

        Raises RunError where none of its rules is written as equations.
        """
        from nnspec.compiler.rules.written.listing import listings

        return listings(self.fitted)

    def __repr__(self) -> str:
        return f"Experiment({self.name})"
