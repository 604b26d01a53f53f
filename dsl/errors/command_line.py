"""Errors of the command line (N0980 to N0999): the spec may be right, what was asked for is not."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class UnknownCommand(Error):
    code = "N0980"
    title = "unknown command"
    message = "there is no command `{name}`"
    help = "did you mean `nnspec {suggestion}`?"
    explain = """`nnspec` alone lists its commands, and `nnspec COMMAND --help` what each of them takes."""


class NoSuchNetwork(Error):
    code = "N0981"
    title = "no such network"
    message = "{file} has no {what} called `{name}`"
    help = "{help}"
    explain = """`--network` takes the name of a network that stands in the file or in one that it uses. Without
it, the last network of the file is taken. `nnspec analyze FILE NAME` takes that of an experiment, too."""


class NoNetwork(Error):
    code = "N0982"
    title = "no network"
    message = "{file} has no network"
    help = "add one: `network small {{ input x: real[4]  output y = x -> dense(2) }}`, one statement a line"
    explain = """The command works on a network, and the file only defines other things, such as layers."""


class NoSuchExperiment(Error):
    code = "N0983"
    title = "no such experiment"
    message = "{file} has no experiment called `{name}`"
    help = "{help}"
    explain = """Training takes the name of an experiment that stands in the file."""


class WhichExperiment(Error):
    code = "N0984"
    title = "several experiments"
    message = "{file} has {count} experiments: {names}"
    help = "name one behind the file, such as `{first}`; `nnspec run {file}` trains all"
    explain = """Training may take long, so that a file with several experiments needs the name of one; so does what is
printed of one."""


class NoExperiment(Error):
    code = "N0985"
    title = "no experiment"
    message = "{file} has no experiment"
    help = "add one: `nnspec new` shows how it looks"
    explain = """Training needs an experiment, which joins a network with data, a loss and a learning rule."""


class WrongSetting(Error):
    code = "N0986"
    title = "not a parameter setting"
    message = "`-p {text}` is not `name=value`: {why}"
    help = "write `-p width=64`; values are numbers, true, false, none, or texts"
    explain = """`-p name=value` gives a parameter of the network another value than its default. The value is
written as in a spec; a bare word is taken as text."""


class FileExists(Error):
    code = "N0987"
    title = "file exists"
    message = "`{path}` exists already"
    help = "give another name, or remove it first"
    explain = """`nnspec new` never overwrites a file."""


class CannotWrite(Error):
    code = "N0988"
    title = "cannot write"
    message = "`{path}` cannot be written: {why}"
    explain = (
        """The system refused to write a file, or its name or folder is not one that the command writes to."""
    )


class NothingCalled(Error):
    code = "N0989"
    title = "nothing to explain"
    message = "there is no error code, operation, rule, pass or other word called `{name}`"
    help = "{advice}"
    explain = """`nnspec explain` takes an error code, such as N0401, or any word of the library: an operation, a
constraint, a rule, an optimizer, a data set, an analysis pass. Without a word it lists them all."""


class NothingToCompare(Error):
    code = "N0990"
    title = "nothing to compare with"
    message = "`nnspec equivalent` compares two things, and {file} alone is given"
    help = "name two sets of weights, `nnspec equivalent {file} A B`, or another spec, `--with FILE`"
    explain = """Two sets of weights of one spec are compared, or two specs with or without weights."""


class WrongArguments(Error):
    code = "N0991"
    title = "arguments that a command does not take"
    message = "{why}"
    help = "{help}"
    explain = """A command takes its own options and so many names or files, in any order. `nnspec COMMAND --help` lists them
with what each means. The exit code is 2."""


class NothingToAnalyse(Error):
    code = "N0992"
    title = "nothing to analyse"
    message = "{file} has no `analyze` item{about}"
    help = "name a pass: `nnspec analyze {file} --pass symmetry`"
    explain = """Without `--pass`, the analyses that the file itself asks for are run."""


class NeedsFolder(Error):
    code = "N0993"
    title = "needs a folder"
    message = "`--emit {emit}` writes a binary file, which cannot be printed"
    help = "add `-o FOLDER`"
    explain = (
        """Emitted text is printed unless a folder is given with `-o`; an exported program is no text."""
    )


class OnlyOneInput(Error):
    code = "N0994"
    title = "standard input with other files"
    message = "`-` stands for the standard input and can be given once"
    explain = """`-` reads one spec from the standard input."""


class NeedsPackage(Error):
    code = "N0995"
    title = "needs a package that is not installed"
    message = "{what} needs the package `{package}`"
    help = 'pip install "nnspec[{extra}]"'
    explain = """Some outputs are written by packages that most users do not need, so they are not installed with
nnspec. The message names the one that is missing."""


class OnlyTextPacked(Error):
    code = "N0996"
    title = "packed weights of another output"
    message = "`--packed` goes with `--emit torch`, and this is another output"
    help = "write `nnspec compile FILE --packed -o FOLDER`"
    explain = """`compile --packed` writes a module and its weights, in as few bits as they need. The other forms of
output hold no weights, or hold them as they are."""


class OtherWeights(Error):
    code = "N0997"
    title = "weights of another network"
    message = "the weights in {run} are not those of `{network}`: `{name}` differs"
    help = "choose the network and the parameters that the run was of, with `--network` and `-p`"
    explain = """The tensors of a run must have the names and shapes that the network has."""


class HoldsNoWeights(Error):
    code = "N0998"
    title = "weights for an output that holds none"
    message = "`--weights` and `--seed` go with `--packed`, `--emit export` and `--emit onnx`; `--emit {emit}` holds no weights"
    help = "leave them out, or add `--packed`"
    explain = (
        """The text of a module, a graph and its symmetries do not depend on the numbers of the weights."""
    )


class NotInOnnx(Error):
    code = "N0999"
    title = "cannot be written as ONNX"
    message = "this network has an operation that cannot be written as ONNX: {why}"
    help = "`--emit export` writes a program of torch instead"
    explain = """ONNX knows fewer operations than torch. What torch's own exporter cannot translate cannot be
written."""
