"""The command line: what it prints where, its exit codes, and that no mistake becomes a traceback."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nnspec.__main__ import main
from nnspec.commands import VERBS

ROOT = Path(__file__).parent.parent.parent

GOOD = '''"""Two layers."""

network small(width: int = 3) {
  input  x: real[4]
  output y: real[2] = x -> dense(width) as fc -> tanh -> dense(2) as head
}
'''
BAD = GOOD.replace("dense(2)", "dense(5)")


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    """`spec(text)`: the path of a file with this text."""

    def written(text: str = GOOD, name: str = "small.nnspec") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return written


# ----------------------------------------------------------------------------------------------- the whole


def test_version_and_overview(capsys: Any) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "nnspec 0.1.0\n"
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in VERBS)
    assert main([]) == 2


def test_an_unknown_command_suggests_one(capsys: Any) -> None:
    assert main(["chekc"]) == 2
    assert "did you mean `nnspec check`?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: nnspec {verb}")


@pytest.mark.parametrize("verb", ["check", "fmt", "show", "compile", "render", "train", "analyze", "run"])
def test_a_missing_file_is_a_diagnostic(verb: str, tmp_path: Path, capsys: Any) -> None:
    assert main([verb, str(tmp_path / "none.nnspec")]) == 1
    both = capsys.readouterr()
    assert "N0111" in both.out + both.err


@pytest.mark.parametrize("verb", ["show", "train", "analyze", "align", "merge", "equivalent"])
def test_with_json_what_is_wrong_is_json(verb: str, spec: Any, capsys: Any) -> None:
    """The answer of a command that was asked for JSON is JSON, and the same that `check --format json` prints."""
    pair = ["a.safetensors", "b.safetensors"] if verb in ("align", "merge", "equivalent") else []
    bad = spec(BAD)
    assert main([verb, bad, *pair, "--json"]) == 1
    both = capsys.readouterr()
    assert main(["check", bad, "--format", "json"]) == 1
    assert json.loads(both.out) == json.loads(capsys.readouterr().out) and not both.err
    for wrong, code in (([], "N0991"), ([bad, "--widths", "3"], "N0991")):
        assert main([verb, *wrong, "--json"]) == 2
        (found,) = json.loads(capsys.readouterr().out)["diagnostics"]
        assert found["code"] == code and found["help"]
    assert main([verb, spec(), *pair, "--network", "smal", "--json"]) in (1, 2)
    assert json.loads(capsys.readouterr().out)["diagnostics"][0]["help"]


def test_warnings_beside_an_answer_in_json_are_json_too(spec: Any, capsys: Any) -> None:
    doubtful = GOOD.replace(
        "dense(2) as head\n", "dense(2) as head\n  constrain fc.weight: mask((i, j) => i > 0)\n"
    )
    assert main(["show", spec(doubtful), "--json"]) == 0
    both = capsys.readouterr()
    assert json.loads(both.out)["network"] == "small"
    assert {one["severity"] for one in json.loads(both.err)["diagnostics"]} == {"warning"}


def test_our_own_bug_is_ours(monkeypatch: pytest.MonkeyPatch, spec: Any, capsys: Any) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("nnspec.commands.check.check", broken)
    assert main(["check", spec()]) == 70
    err = capsys.readouterr().err
    assert "not your fault" in err and "Traceback" not in err
    monkeypatch.setenv("NNSPEC_DEBUG", "1")
    assert main(["check", spec()]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_interrupted_is_one_line(monkeypatch: pytest.MonkeyPatch, spec: Any, capsys: Any) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nnspec.commands.check.check", interrupted)
    assert main(["check", spec()]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_broken_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m nnspec explain | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr == ""


# -------------------------------------------------------------------------------------------------- check


def test_check_exit_codes(spec: Any, capsys: Any) -> None:
    assert main(["check", spec()]) == 0
    assert capsys.readouterr().out == "1 file: no errors\n"
    assert main(["check", spec(), spec(BAD, "bad.nnspec")]) == 1
    out = capsys.readouterr().out
    assert "error[N04" in out and "bad.nnspec:5:" in out and "1 error;" in out


def test_check_json_has_exactly_the_promised_keys(spec: Any, capsys: Any) -> None:
    path = spec(BAD)
    assert main(["check", path, "--format", "json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert list(data) == ["diagnostics"]
    (found,) = data["diagnostics"]
    keys = "code severity message help file line column end_line end_column related"
    assert set(found) == set(keys.split())
    assert (found["severity"], found["file"], found["line"]) == ("error", path, 5)


def test_check_other_formats(spec: Any, capsys: Any) -> None:
    path = spec(BAD)
    main(["check", path, "--format", "gcc"])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{path}:5:") and ": error: " in line
    main(["check", path, "--format", "sarif"])
    log = json.loads(capsys.readouterr().out)
    assert log["version"] == "2.1.0" and len(log["runs"][0]["results"]) == 1


@pytest.mark.parametrize("form", ["json", "gcc", "sarif"])
def test_a_good_spec_prints_no_errors_in_any_format(form: str, spec: Any, capsys: Any) -> None:
    assert main(["check", spec(), "--format", form]) == 0
    assert "N0" not in capsys.readouterr().out


def test_check_reads_the_standard_input(spec: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nnspec", "check", "-"], input=BAD, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "<stdin>:5:" in done.stdout
    assert main(["check", "-", "-"]) == 2


def test_colours_only_on_a_terminal(spec: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = spec(BAD)
    main(["check", path])
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    main(["check", path])
    assert "\x1b[1;31m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    main(["check", path])
    assert "\x1b" not in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------- fmt


def test_fmt_rewrites_checks_and_shows(spec: Any, capsys: Any) -> None:
    path = spec(GOOD.replace("width: int = 3", "width:int=3"))
    before = Path(path).read_text()
    assert main(["fmt", "--check", path]) == 1
    assert main(["fmt", "--diff", path]) == 0
    assert "+network small(width: int = 3) {" in capsys.readouterr().out
    assert Path(path).read_text() == before
    assert main(["fmt", path]) == 0
    assert Path(path).read_text() == GOOD
    assert main(["fmt", "--check", path]) == 0
    assert os.listdir(Path(path).parent) == ["small.nnspec"]


def test_fmt_leaves_a_wrong_file_alone(spec: Any) -> None:
    path = spec("network {")
    assert main(["fmt", path]) == 1
    assert Path(path).read_text() == "network {"


# ------------------------------------------------------------------------------------------- show, compile


def test_show_json(spec: Any, capsys: Any) -> None:
    assert main(["show", spec(), "--json", "-p", "width=7"]) == 0
    data = json.loads(capsys.readouterr().out)
    parameters = 7 * 4 + 7 + 2 * 7 + 2
    assert (data["network"], data["parameters"], data["bytes"]) == ("small", parameters, 4 * parameters)
    assert {"path", "operation", "input", "output", "parameters"} <= set(data["layers"][0])
    assert [layer["path"] for layer in data["layers"]] == ["fc", "tanh", "head"]


def test_show_prints_the_layers(spec: Any, capsys: Any) -> None:
    assert main(["show", spec()]) == 0
    out = capsys.readouterr().out
    assert "fc" in out and "real[4]" in out and "23 parameters" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--network", "smal"], 2, "did you mean `small`?"),
        (["-p", "widht=3"], 2, "did you mean `width`?"),
        (["-p", "width"], 2, "there is no `=`"),
        (["-p", "width="], 2, "there is no value"),
        (["-p", "=3"], 2, "no name"),
        (["-p", "width=3", "-p", "width=4"], 2, "given twice"),
        (["-p", "width=" + "9" * 5000], 2, "too long"),
        (["-p", "width=1e999"], 2, "too large"),
        (["-p", "width=-3"], 1, "-3"),
        (["-p", "width=big"], 1, "whole number"),
    ],
)
def test_settings(arguments: list[str], code: int, said: str, spec: Any, capsys: Any) -> None:
    assert main(["show", spec(), *arguments]) == code
    assert said in capsys.readouterr().err


def test_a_file_without_a_network(spec: Any, capsys: Any) -> None:
    assert main(["show", spec("let a = 3\n")]) == 2
    assert "has no network" in capsys.readouterr().err


def test_compile_prints_python(spec: Any, capsys: Any) -> None:
    assert main(["compile", spec()]) == 0
    tree = ast.parse(capsys.readouterr().out)
    assert [node.name for node in tree.body if isinstance(node, ast.ClassDef)] == ["Small"]


def test_compile_writes_files(spec: Any, tmp_path: Path) -> None:
    out = tmp_path / "made" / "here"
    for emit in ("torch", "graph"):
        assert main(["compile", spec(), "--emit", emit, "-o", str(out)]) == 0
    assert sorted(os.listdir(out)) == ["small.graph.json", "small.py"]
    assert json.loads((out / "small.graph.json").read_text())["network"] == "small"


def test_compile_refuses_to_print_a_binary(spec: Any, capsys: Any) -> None:
    assert main(["compile", spec(), "--emit", "export"]) == 2
    assert "-o FOLDER" in capsys.readouterr().err


def test_nothing_is_written_after_an_error(spec: Any, tmp_path: Path) -> None:
    assert main(["compile", spec(BAD), "-o", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_written(spec: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "taken").write_text("")
    assert main(["compile", spec(), "-o", str(tmp_path / "taken")]) == 2
    assert "N0988" in capsys.readouterr().err


# -------------------------------------------------------------------------------------- new, explain, doctor


def test_new_writes_a_spec_that_checks_and_never_overwrites(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "mine"
    assert main(["new", str(path)]) == 0
    made = tmp_path / "mine.nnspec"
    assert main(["check", str(made)]) == 0
    assert main(["fmt", "--check", str(made)]) == 0
    made.write_text("# mine\n")
    assert main(["new", str(path)]) == 2
    assert made.read_text() == "# mine\n"
    assert "exists already" in capsys.readouterr().err


def test_explain(capsys: Any) -> None:
    assert main(["explain", "n0401"]) == 0
    assert capsys.readouterr().out.startswith("N0401: shape mismatch")
    assert main(["explain", "dense"]) == 0
    out = capsys.readouterr().out
    assert "dense(units, bias = true)" in out and "how many outputs" in out
    assert main(["explain", "dens"]) == 2
    assert "did you mean `dense`?" in capsys.readouterr().err
    assert main(["explain", "network"]) == 2
    assert "docs/language.md" in capsys.readouterr().err
    assert main(["explain", "settle"]) == 2
    assert "Learning rules" in capsys.readouterr().err
    assert main(["explain", "deep"]) == 0  # a rule, and a dynamics
    out = capsys.readouterr().out
    assert "learn = deep" in out and "use library.dynamics" in out
    assert main(["explain", "library.dynamics.deep"]) == 0
    assert "outgoing(1)" in capsys.readouterr().out
    assert main(["explain", "zzzzzzz"]) == 2
    assert "lists every word" in capsys.readouterr().err
    assert main(["explain"]) == 0
    assert "cross_entropy" in capsys.readouterr().out


def test_every_word_and_code_can_be_explained(capsys: Any) -> None:
    from nnspec.compiler.catalog import catalog
    from nnspec.dsl.errors import all_errors

    words = catalog()
    known = {name for family in words.families() for name in words.names(family)}
    for name in sorted(known | {error.code for error in all_errors()}):
        assert main(["explain", name]) == 0, name
        assert capsys.readouterr().out.strip()


def test_doctor_says_what_is_there(capsys: Any) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "torch" in out and "matplotlib" in out and sys.prefix in out


def test_doctor_says_how_to_get_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from importlib.metadata import PackageNotFoundError

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", absent)
    monkeypatch.setattr("nnspec.commands.doctor._ASK_TORCH", "import os; os.abort()")
    assert main(["doctor"]) == 3
    out = capsys.readouterr().out
    assert "pip install torch" in out and 'pip install "nnspec[data]"' in out


def test_long_sentences_of_a_table_are_set_in_lines(spec: Any, capsys: Any) -> None:
    from nnspec.tables import print_table

    print_table("Theorems", ("name", "says"), [("one", "a sentence of words " * 10)])
    lines = capsys.readouterr().out.splitlines()
    assert (
        max(map(len, lines)) < 80 and " ".join(" ".join(lines[3:]).split()).count("a sentence of words") == 10
    )


def test_verify_is_a_flag_and_the_json_says_what_it_found(spec: Any, capsys: Any) -> None:
    assert main(["analyze", spec(), "--pass", "symmetry", "--verify", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    keys = ["log10_order", "order", "factors", "continuous_dimension", "families", "wires", "completeness"]
    assert set(data) >= {*keys, "verified"}
    assert set(data["wires"][0]) >= {"name", "size", "group", "reason", "line"}
    assert set(data["verified"]) >= {"generators", "max_output_error", "nullity"}
    assert data["verified"]["nullity"] == min(data["verified"]["nullities"]) >= data["continuous_dimension"]
    assert main(["analyze", spec(), "--pass", "cost", "--verify"]) == 2
    assert "N0979" in capsys.readouterr().err


@pytest.mark.parametrize(("view", "said"), [("symmetry", "labelloc=b"), ("neurons", "layout=neato")])
def test_render_has_views(view: str, said: str, spec: Any, capsys: Any) -> None:
    assert main(["render", spec(), "--view", view, "-o", "-"]) == 0
    assert said in capsys.readouterr().out


def test_a_network_of_many_units_is_not_drawn_as_dots(spec: Any, capsys: Any) -> None:
    large = "network n {\n  input x: real[500]\n  output y = x -> dense(3)\n}\n"
    assert main(["render", spec(large), "--view", "neurons", "-o", "-"]) == 1
    assert "N0905" in capsys.readouterr().err


def test_the_symmetry_graph_is_written_as_json_and_graphml(spec: Any, tmp_path: Path) -> None:
    import networkx

    assert main(["compile", spec(), "--emit", "symmetry", "-o", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*.symmetry.json")
    data = json.loads(path.read_text())
    library: Any = networkx
    read = library.read_graphml(path.with_suffix(".graphml"), force_multigraph=True)
    assert {node["id"] for node in data["graph"]["nodes"]} == set(read.nodes)
    assert {wire["name"] for wire in data["wires"]} == {
        node.removeprefix("wire ") for node, own in read.nodes(data=True) if own["kind"] == "wire"
    }
