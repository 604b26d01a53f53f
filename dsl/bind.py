"""The bind stage: a parsed file and the compiler's catalog -> `Definitions`.

Every name and every argument name of every body is looked up here, whether the body is used or not, and
each construct whose meaning comes later is refused. Sizes and values are not known yet. Experiments and
analyses are words of the catalog only; `fit` reads them.
"""

from __future__ import annotations

from nnspec.dsl.bind_body import BodyBinder
from nnspec.dsl.catalog import Catalog
from nnspec.dsl.definitions import Constant, Definition, Definitions, Module
from nnspec.dsl.diagnostics import Bag, Error, Related
from nnspec.dsl.errors.names import DuplicateName, ImportCycle, UnknownLanguage
from nnspec.dsl.imports import Importer
from nnspec.dsl.source import Source, Span
from nnspec.dsl.syntax import (
    ActivationDefinition,
    ConstraintDefinition,
    DynamicsDefinition,
    ExperimentDefinition,
    File,
    Item,
    LayerDefinition,
    Let,
    NetworkDefinition,
    RuleDefinition,
    Use,
)


def bind(source: Source, file: File, catalog: Catalog, importer: Importer) -> Definitions:
    """Resolve the names of a file and of all that it uses; problems go to the importer's bag."""
    module = Module(source, file)
    if file.language not in (None, 1):
        importer.bag.add(UnknownLanguage(file.span, found=str(file.language)))
    if source.path is not None:
        importer.open.append(source.path.resolve())
        importer.modules[source.path.resolve()] = module
    collected: list[Module] = []
    _collect(module, importer, collected)
    for found in collected:
        _bind_bodies(found, catalog, importer.bag)
    return Definitions(module=module, modules=tuple(collected), catalog=catalog, folders=importer.folders)


def _collect(module: Module, importer: Importer, collected: list[Module]) -> None:
    """Fill in a module's names, those of the files that it uses first."""
    collected.append(module)
    for item in module.file.items:
        if isinstance(item, Use):
            _use(module, item, importer, collected)
        else:
            _declare_item(module, item, importer.bag)


def _use(module: Module, use: Use, importer: Importer, collected: list[Module]) -> None:
    used = importer.module(use, module.source)
    if used is None:
        _stand_in(module, use, importer.bag)
        return
    path = used.source.path
    if path is not None and used not in collected:
        importer.open.append(path.resolve())
        _collect(used, importer, collected)
        importer.open.pop()
    elif path is not None and path.resolve() in importer.open:
        importer.bag.add(ImportCycle(use.span, cycle=f"{module.source.name} -> {used.source.name}"))
        _stand_in(module, use, importer.bag)
        return
    if use.name is not None:
        _declare(module, use.name, used, use.span, importer.bag)
        return
    for name, meaning in used.names.items():
        _declare(module, name, meaning, use.span, importer.bag)
    module.incomplete |= used.incomplete


def _stand_in(module: Module, use: Use, bag: Bag) -> None:
    """After a file that could not be used, names that may come from it are taken for known."""
    if use.name is None:
        module.incomplete = True
        return
    unread = Module(module.source, File(items=(), source=module.source))
    unread.incomplete = True
    _declare(module, use.name, unread, use.span, bag)


def _declare_item(module: Module, item: Item, bag: Bag) -> None:
    match item:
        case Let():
            constant = Constant(name=item.name, value=item.value, span=item.span)
            _declare(module, item.name, constant, item.span, bag)
        case LayerDefinition():
            _declare(module, item.name, Definition("layer", item, module), _head(item), bag)
        case NetworkDefinition():
            _declare(module, item.name, Definition("network", item, module), _head(item), bag)
        case ActivationDefinition():
            _declare(module, item.name, Definition("activation", item, module), _head(item), bag)
        case ConstraintDefinition():
            _declare(module, item.name, Definition("constraint", item, module), _head(item), bag)
        case DynamicsDefinition():
            _declare(module, item.name, Definition("dynamics", item, module), _head(item), bag)
        case RuleDefinition():
            _declare(module, item.name, Definition("rule", item, module), _head(item), bag)
        case ExperimentDefinition():
            _declare(module, item.name, Definition("experiment", item, module), _head(item), bag)
        case _:
            pass  # analyses have no name of their own


def _declare(
    module: Module, name: str, meaning: Definition | Constant | Module, span: Span, bag: Bag
) -> None:
    if module.names.get(name) is meaning:
        return
    if name in module.names:
        first = module.places[name]
        bag.add(duplicate(name, span, first, _way_out(module, name, (span, first))))
        return
    module.names[name] = meaning
    module.places[name] = span


def duplicate(name: str, span: Span, first: Span | None, help: str | None = None) -> Error:
    """Return the error of a second declaration, with where the first one stands."""
    related = () if first is None else (Related(span=first, label="first declared here"),)
    return DuplicateName(span, related, name=name, help=help)


def _way_out(module: Module, name: str, spans: tuple[Span, ...]) -> str | None:
    """Return the `use` line under which both meanings of a name can stand; None if neither came by one."""
    for span in spans:
        for item in module.file.items:
            if isinstance(item, Use) and item.span == span:
                own = item.target.removesuffix(".nnspec").replace("/", ".").rpartition(".")[2]
                own = own if own.isidentifier() and own not in module.names else "parts"
                target = f'"{item.target}"' if item.quoted else item.target
                return f"`use {target} as {own}` keeps both: its `{name}` is then `{own}.{name}`"
    return None


def _head(item: Item) -> Span:
    return getattr(item, "name_span", None) or item.span


def _bind_bodies(module: Module, catalog: Catalog, bag: Bag) -> None:
    for meaning in tuple(module.names.values()):
        if isinstance(meaning, Definition) and meaning.module is module:
            before = len(bag)
            BodyBinder(meaning, catalog, bag).run()
            meaning.broken = len(bag) > before and bag.failed
        elif isinstance(meaning, Constant) and module.places[meaning.name] is meaning.span:
            BodyBinder.constant(module, meaning, catalog, bag)
