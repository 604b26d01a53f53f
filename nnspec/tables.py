"""Tables on the terminal: a network's layers, the results of analyses and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.terminal import console, write

if TYPE_CHECKING:
    from nnspec.compiler.constrained import ConstrainedWeight
    from nnspec.compiler.passes.analysis import Result
    from nnspec.compiler.passes.cost import CostTable


def print_network(table: CostTable) -> None:
    """Print the layers of a network, and its totals below."""
    data = table.json()
    columns = ("layer", "operation", "input", "output", "parameters", "operations")
    rows = [
        (
            layer["path"],
            layer["operation"],
            layer["input"],
            layer["output"],
            layer["parameters"] or "",
            layer["flops"],
        )
        for layer in data["layers"]
    ]
    print_table(f"network {data['network']}", columns, rows)
    if table.constraints:
        print_table("constrained weights", CONSTRAINED, [constrained_row(own) for own in table.constraints])
    write(
        f"{number(data['parameters'])} parameters, {size(data['bytes'])}; "
        f"{number(data['flops'])} operations a sample\n"
    )


_WIDEST = 60  # characters of a column: sentences are set in several lines
CONSTRAINED = ("weight", "constraint", "entries", "stored", "free", "multiplied by")


def constrained_row(given: ConstrainedWeight) -> tuple[str | int, ...]:
    """Return the row of a constrained weight; "free" says how many numbers say which member of the set it is."""
    stored = ", ".join(
        f"{given.stored_name(tensor)} {list(tensor.shape)}"
        + ("" if tensor.kind == "learned" else f" ({tensor.kind})")
        for tensor in given.weight.stored
    )
    return given.path, given.text, given.entries, stored or "elsewhere", given.free, given.kernel


def print_result(result: Result) -> None:
    """Print what an analysis found: its tables, then its summary."""
    for table in result.tables:
        print_table(table.title, table.columns, table.rows)
    write(result.summary + "\n")


def print_table(title: str, columns: tuple[str, ...], rows: Any) -> None:
    """Print rows under column names; columns of numbers are set right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    lines = [tuple(number(cell) for cell in row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        numeric = any(isinstance(row[index], int | float) for row in rows)
        justify = "right" if numeric else "left"
        table.add_column(column, justify=justify, overflow="fold", max_width=_WIDEST)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    target = console()
    target.print(Text(title, style="bold"))
    target.print(table)
    target.print()


def number(value: Any) -> str:
    """Return a cell as people read it: `118,282`, `0.9731`, nothing for none."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def size(count: int) -> str:
    """Return bytes as people read them: `473.1 kB`."""
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count:,} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
