"""Reports as the command line fills them: hostile specs, many seeds, large networks, no matplotlib."""

from __future__ import annotations

import re
from argparse import Namespace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import nnspec
from nnspec.compiler.runtime import figures
from nnspec.compiler.runtime.results import RunResult, SeedResult
from nnspec.report import write_report
from nnspec.spec import Spec

HOSTILE = "</style></pre><script>alert(1)</script> &amp; 'x'"
NETWORK = "network n {\n  input  x: real[2]\n  output y: real[2] = x -> dense(2)\n}\n"


def opened(text: str, path: Path) -> Spec:
    path.write_text(text, encoding="utf-8")
    return nnspec.load(str(path))


def options(**given: object) -> Namespace:
    return Namespace(
        **{"parameters": [], "network": None, "device": None, "data_root": None, "allow": []} | given
    )


def written(spec: Spec, runs: tuple[RunResult, ...] = (), **given: object) -> str:
    path = Path("report.html")
    write_report(path, spec, runs, [], options(**given))
    return path.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(seeds: int, *, diverged: tuple[int, ...] = ()) -> RunResult:
    own = [
        SeedResult(
            seed=seed,
            status="diverged" if seed in diverged else "finished",
            metrics={"loss": seed / 8, "accuracy": 0.5, "test.loss": seed / 8},
            epochs=1,
            confusion=((3, 1), (0, 4)),
        )
        for seed in range(seeds)
    ]
    history = [
        {"seed": seed, "epoch": epoch, "step": epoch, "test": {"loss": float("inf") if epoch else 1.0}}
        for seed in range(seeds)
        for epoch in (0, 1)
    ]
    return RunResult(
        experiment="e",
        path=Path("runs/e"),
        identity="ab" * 32,
        held_out="test",
        seeds=tuple(own),
        history=tuple(history),
        settings={"seeds": list(range(seeds)), "loss": {"word": "huber", "delta": 1.0}},
        environment={"torch": "2"},
        data="cd" * 32,
    )


def test_a_hostile_spec_and_file_name(folder: Path) -> None:
    name = "a <b> & 'c'.nnspec"
    spec = opened(f'"""{HOSTILE}"""\n' + NETWORK.replace("{\n", f'{{\n  """{HOSTILE}"""\n', 1), folder / name)
    page = written(spec)
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)
    parser.feed(page)
    assert "script" not in tags and "a <b>" not in page
    assert page.count("</style>") == 1
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", page)


def test_few_seeds_stand_in_one_table(folder: Path) -> None:
    page = written(opened(NETWORK, folder / "n.nnspec"), (run(3),))
    assert "mean of 3" in page and "<details>" not in page
    assert "[0, 1, 2]" in page
    assert "huber(delta = 1.0)" in page
    assert "ab" * 32 in page and "cd" * 32 in page


def test_many_seeds_are_summed_up(folder: Path) -> None:
    page = written(opened(NETWORK, folder / "n.nnspec"), (run(20, diverged=(19,)),))
    assert "0..19" in page
    assert "each of 20 seeds" in page and "<details>" in page
    row = re.search(r"<tr><td>loss</td>(.*?)</tr>", page)
    assert row is not None
    found = [float(cell) for cell in re.findall(r">([\d.]+)<", row.group(1))]
    assert found[0] == pytest.approx(9 / 8)  # the mean of 0..18, by eighths: the 19th diverged
    assert found[2:] == [0.0, 9 / 8, 18 / 8]


def test_all_seeds_diverged(folder: Path) -> None:
    page = written(opened(NETWORK, folder / "n.nnspec"), (run(15, diverged=tuple(range(15))),))
    assert "each of 15 seeds" in page


def test_without_matplotlib_there_are_tables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "available", lambda: False)
    page = written(opened(NETWORK, folder / "n.nnspec"), (run(3),))
    assert "matplotlib is not installed" in page
    assert "mean of 3" in page


def test_without_a_renderer_the_report_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnspec.compiler.diagrams.renderer.find_renderer", lambda: None)
    page = written(opened(NETWORK, folder / "n.nnspec"))
    assert "nnspec[render]" in page and "<svg" not in page


def test_a_large_network_is_folded(folder: Path) -> None:
    layers = "".join(f"    -> block({width}) as b{width}\n" for width in range(2, 102))
    text = (
        "layer block(width: int) {\n  input  x: real[..]\n"
        "  output y = x -> dense(width) -> relu -> dense(width) -> tanh\n}\n"
        f"network n {{\n  input  x: real[2]\n  output y = x\n{layers}}}\n"
    )
    page = written(opened(text, folder / "n.nnspec"))
    assert page.count("<svg") == 1
    assert 'class="cluster"' not in page  # blocks are one node each
    assert "<details>" in page


def test_the_command_can_be_run_again(folder: Path) -> None:
    spec = opened(NETWORK.replace("n {", "n(width: int = 3) {"), folder / "my net.nnspec")
    page = written(spec, parameters=["width=5"], allow=[Path("a b")], device="cpu")
    assert "-p width=5 --device cpu --allow &#x27;a b&#x27;</pre>" in page
    assert "my net.nnspec&#x27;" in page


def test_constrained_weights_are_drawn(folder: Path) -> None:
    spec = opened(
        "network n {\n  input  x: real[2]\n  output y: real[2] = x -> dense(4) as inner -> tanh -> dense(2)\n"
        '  constrain inner.weight: group_lasso(0.1, group = "input") & box(-1, 1)\n}\n'
        "experiment e {\n  network = n\n  data = moons(samples = 40)\n  loss = cross_entropy\n"
        "  learn = backprop\n  epochs = 2\n}\n",
        folder / "weights.nnspec",
    )
    result = spec.experiment("e").train(out=folder / "runs")
    page = written(spec, (result,))
    assert "constrained weights, seed 0" in page
    assert "group_lasso(strength = 0.1, group = &quot;input&quot;)" in page
    assert "<td>weight [4, 2]</td>" in page
    assert page.count("<figcaption>inner.weight: box(low = -1, high = 1)") == 1
    drawn = page[page.index("constrained weights, seed 0") : page.index("<figcaption>inner.weight")]
    assert all(f">{title}</text>" in drawn for title in ("entries", "weight", "residual", "penalty"))
