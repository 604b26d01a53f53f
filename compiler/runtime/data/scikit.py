"""The small data sets that come with scikit-learn: digits, iris, wine, breast_cancer, diabetes.

Their fields and numbers of rows are known without it; nothing is ever downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from nnspec.compiler.runtime.data.dataset import TARGET_SCALE, DataSet
from nnspec.compiler.runtime.data.field import Field, Raw
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.data import ScikitMissing
from nnspec.dsl.source import Span


class Bundled(DataSet):
    """A data set of `sklearn.datasets`, read by its function `load_NAME`."""

    known: ClassVar[tuple[Field, ...]]
    count: ClassVar[int]

    def fields(self, options: dict[str, Any]) -> tuple[Field, ...]:
        return self.known

    def rows(self, options: dict[str, Any]) -> int:
        return self.count

    def read(self, options: dict[str, Any], root: Path, span: Span | None) -> Raw:
        try:
            from sklearn import datasets  # pyright: ignore[reportMissingTypeStubs]
        except ImportError:
            raise RunError(ScikitMissing(span, name=self.name)) from None
        inputs, targets = getattr(datasets, f"load_{self.name}")(return_X_y=True)
        first, second = self.known
        columns = {first.name: inputs.reshape(-1, *first.shape), second.name: targets}
        return Raw(fields=self.known, columns=columns)


def _label(*names: str) -> Field:
    return Field(name="label", dtype="int", classes=len(names), target=True, class_names=names)


class Digits(Bundled):
    name = "digits"
    doc = "1,797 pictures of handwritten digits, 8 by 8, in ten classes. Fields: image, label."
    example = "data = digits(test = 0.2)"
    scale = "unit"
    known = (Field(name="image", shape=(8, 8)), _label(*"0123456789"))
    count = 1797


class Iris(Bundled):
    name = "iris"
    doc = "150 irises of three species by four lengths (Fisher, 1936). Fields: features, label."
    example = "data = iris(test = 0.3)"
    scale = "standard"
    known = (Field(name="features", shape=(4,)), _label("setosa", "versicolor", "virginica"))
    count = 150


class Wine(Bundled):
    name = "wine"
    doc = "178 wines of three growers by 13 chemical measures. Fields: features, label."
    example = "data = wine"
    scale = "standard"
    known = (Field(name="features", shape=(13,)), _label("class_0", "class_1", "class_2"))
    count = 178


class BreastCancer(Bundled):
    name = "breast_cancer"
    doc = "569 tumours, malignant or benign, by 30 measures of their cells. Fields: features, label."
    example = "data = breast_cancer"
    scale = "standard"
    known = (Field(name="features", shape=(30,)), _label("malignant", "benign"))
    count = 569


class Diabetes(Bundled):
    name = "diabetes"
    doc = "Progress of the disease of 442 patients a year on, by ten measures. Fields: features, progress."
    example = 'data = diabetes(target_scale = "standard")'
    own = (TARGET_SCALE,)
    scale = "standard"
    known = (Field(name="features", shape=(10,)), Field(name="progress", target=True))
    count = 442


SETS: tuple[DataSet, ...] = (Digits(), Iris(), Wine(), BreastCancer(), Diabetes())
