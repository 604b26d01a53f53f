"""`use`: from a parsed file to the modules that it and its files use.

In: a file, the folders that may be read, and `read(path, span, bag)`, which the face hands in. Out:
modules with their own names; those of used files are added by `bind`. Paths are relative to the file that
uses them, links are resolved first, and nothing outside the allowed folders is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nnspec.dsl.definitions import Module
from nnspec.dsl.diagnostics import Bag, Related
from nnspec.dsl.errors.names import ImportCycle, ImportMissing, ImportOutside, NoLibraryPart
from nnspec.dsl.source import Source
from nnspec.dsl.standard import parts
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import File, Use

Read = Callable[[Path, Bag], "Source | None"]
Parse = Callable[[Source, Bag], File]


class Importer:
    """Reads used files, each once, and refuses cycles and files outside the allowed folders."""

    def __init__(self, folders: tuple[Path, ...], read: Read, parse: Parse, bag: Bag) -> None:
        self.folders = tuple(folder.resolve() for folder in folders)
        self.read = read
        self.parse = parse
        self.bag = bag
        self.modules: dict[Path, Module | None] = {}
        self.open: list[Path] = []

    def module(self, use: Use, user: Source) -> Module | None:
        """Return the module that a `use` names, or None after a diagnostic."""
        path = self.locate(use, user)
        if path is None:
            return None
        if path in self.open:
            names = [p.name for p in self.open[self.open.index(path) :]] + [path.name]
            self.bag.add(ImportCycle(use.span, cycle=" -> ".join(names)))
            return None
        if path not in self.modules:
            self.modules[path] = self.load(path, use)
        return self.modules[path]

    def load(self, path: Path, use: Use) -> Module | None:
        inner = Bag()
        source = self.read(path, inner)
        if source is not None and not use.quoted:  # by its own name, wherever it is installed
            source = Source(use.target, source.text, path)
        file = None if source is None else self.parse(source, inner)
        for error in inner:
            error.related = (*error.related, Related(span=use.span, label=f"`{use.target}` is used here"))
            self.bag.add(error)
        if source is None or file is None or inner.failed:
            return None
        return Module(source, file)

    def locate(self, use: Use, user: Source) -> Path | None:
        if not use.quoted:
            return self.library(use)
        if user.path is None:
            self.bag.add(ImportMissing(use.span, target=use.target, suggestion=None))
            return None
        path = (user.path.parent / use.target).resolve()
        if not any(path.is_relative_to(folder) for folder in self.folders):
            self.bag.add(ImportOutside(use.span, target=use.target))
            return None
        return path if path.is_file() else self.missing(use, path.parent)

    def library(self, use: Use) -> Path | None:
        prefix, _, name = use.target.partition(".")
        if prefix == "library" and name in parts():
            return parts()[name]
        near = nearest(use.target, [f"library.{part}" for part in parts()])
        help_text = (
            f"did you mean `{near}`?" if near else f'a file is named in quotes: `use "{use.target}.nnspec"`'
        )
        self.bag.add(NoLibraryPart(use.span, target=use.target, help=help_text))
        return None

    def missing(self, use: Use, folder: Path) -> None:
        near = {path.stem: path.name for path in folder.glob("*.nnspec")} if folder.is_dir() else {}
        before, slash, name = use.target.rpartition("/")
        stem = nearest(name.removesuffix(".nnspec"), near)
        suggestion = None if stem is None else before + slash + near[stem]
        self.bag.add(ImportMissing(use.span, target=use.target, suggestion=suggestion))
