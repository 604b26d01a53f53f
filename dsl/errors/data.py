"""Errors of data sets: files that are missing, not as said, or not safe to read (N07xx)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class DataFileMissing(Error):
    code = "N0701"
    title = "data file not found"
    message = "there is no file `{path}`"
    label = "looked for under {root}"
    help = "{help}"
    explain = """Data files are looked for under the folder of the spec, or under the folder given with
`--data-root`. The path must name a file that can be read."""


class DataPathOutside(Error):
    code = "N0702"
    title = "data file outside the allowed folder"
    message = "`{path}` lies outside the folder of the data"
    label = "not read"
    help = "give its folder with `--data-root FOLDER`, or copy the file"
    explain = """A spec reads data only from below its own folder, or from below the folder given with
`--data-root`. Links are resolved first, so a link cannot lead outside."""


class DataColumnUnknown(Error):
    code = "N0703"
    title = "no such column"
    message = "`{path}` has no column {name}"
    label = "no such column"
    help = "{help}"
    explain = """`target` and `inputs` name columns by the header of the file, or by their number from 0. With
`header = false` there are only numbers."""


class DataCellNotNumber(Error):
    code = "N0704"
    title = "cell is not a number"
    message = "`{path}`, line {line}, column `{column}`: {found} is no number"
    label = "read here"
    help = "{help}"
    explain = """Every input column of a table must hold numbers. Leave other columns out with
`inputs = [...]`, and check that `header` and `delimiter` are those of the file."""


class DataNotFinite(Error):
    code = "N0705"
    title = "data are not finite"
    message = "`{path}` holds {found} in {place}"
    label = "read here"
    help = "remove or fill the rows with missing values"
    explain = """Not-a-number and infinite values would make the loss meaningless from the first step. They
are refused rather than replaced, for no replacement is right for every data set."""


class DataOneClass(Error):
    code = "N0706"
    title = "only one class"
    message = "every row of `{name}` has the label {found}"
    label = "nothing to tell apart"
    help = "{help}"
    explain = """A classifier needs rows of at least two classes."""


class DataTooFewRows(Error):
    code = "N0707"
    title = "too few rows"
    message = "{why}"
    label = "{found}"
    help = "{help}"
    explain = """The training part must hold at least one batch, and each part that the split asks for at
least one row."""


class ScikitMissing(Error):
    code = "N0708"
    title = "scikit-learn is not installed"
    message = "the data set `{name}` comes with scikit-learn, which is not installed"
    label = "needs scikit-learn"
    help = "pip install scikit-learn"
    explain = """The data sets digits, iris, wine, breast_cancer and diabetes are read from the scikit-learn
package; nothing is downloaded. The other data sets do not need it."""


class DataPickled(Error):
    code = "N0709"
    title = "pickled array"
    message = "`{array}` in `{path}` holds Python objects"
    label = "not read"
    help = "save it as an array of numbers: `numpy.savez(path, x=x.astype('float32'))`"
    explain = """An array of Python objects is stored as a pickle, and reading a pickle runs whatever code it
holds. Only arrays of numbers are read."""


class DataTooLarge(Error):
    code = "N0710"
    title = "data too large"
    message = "`{path}` would take {found} once unpacked"
    label = "beyond the limit of {limit}"
    explain = """The size that a file declares is looked at before anything is unpacked, so that a small file
cannot fill the memory."""


class DataEmpty(Error):
    code = "N0711"
    title = "no data"
    message = "`{path}` holds no rows"
    label = "read here"
    explain = """A data set needs at least one row; a table's header is not counted."""


class DataUnreadable(Error):
    code = "N0712"
    title = "data file cannot be read"
    message = "`{path}` cannot be read: {why}"
    label = "read here"
    help = "{help}"
    explain = """The file exists, and is not what the data set says it is: text in UTF-8 for `csv`, a numpy
archive for `npz`, the format of MNIST (perhaps with gzip) for `idx`."""


class DataRagged(Error):
    code = "N0713"
    title = "rows of unequal length"
    message = "`{path}`, line {line}: {found} cells, where the first row has {expected}"
    label = "read here"
    help = "{help}"
    explain = """Every row of a table has as many cells as its first one. Often the delimiter is another one,
or a text with a delimiter in it is not in quotes."""


class DataArrayUnknown(Error):
    code = "N0714"
    title = "no such array"
    message = "`{path}` holds no array called `{name}`"
    label = "no such array"
    help = "{help}"
    explain = """`input` and `target` of `npz` name arrays of the archive."""


class DataRowsDiffer(Error):
    code = "N0715"
    title = "inputs and targets of unequal number"
    message = "`{first}` has {first_rows} rows and `{second}` has {second_rows}"
    label = "read here"
    explain = """Each row of the inputs belongs to the row of the targets with the same number."""


class DataNotNumbers(Error):
    code = "N0716"
    title = "not an array of numbers"
    message = "`{array}` in `{path}` is {found}"
    label = "read here"
    explain = """Inputs and targets are arrays of real or whole numbers whose first axis counts rows."""


class NoLabelsToCorrupt(Error):
    code = "N0717"
    title = "no labels to make wrong"
    message = "`corrupt` makes labels wrong, and `{name}` holds numbers"
    label = "the target is {found}"
    help = "leave it out, or say `classes = true` if these numbers are labels"
    explain = """`corrupt = symmetric(0.4)` gives a fraction of the training rows another label. A target of numbers has
no other labels to choose from."""
