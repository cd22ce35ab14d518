"""Whether a row of data is what the model takes: names, dtypes, shapes, values; and what all rows together hold."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from convert.errors import UsageError
from convert.spec import Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np


class Fitting:
    """Checks rows one after another and remembers their ranges and hashes, not the rows.

    Floats of another width become the model's, and so do integers whose values fit; that is said in the notes. Whether
    integers stand for floats cannot be known from them, so a model of floats takes none.
    """

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.digests: list[str] = []  # SHA-256 of every sample, in order
        self.held_digests: list[str] = []
        self.ranges: dict[str, tuple[float, float]] = {}
        self._casts: dict[str, str] = {}

    def add(self, where: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Check a sample to calibrate with and give it in the model's dtypes; raises UsageError where it cannot be."""
        fitted = self._fit(where, arrays)
        for name, array in fitted.items():
            low, high = float(array.min()), float(array.max())
            least, greatest = self.ranges.get(name, (low, high))
            self.ranges[name] = (min(least, low), max(greatest, high))
        self.digests.append(digest(fitted))
        return fitted

    def set_aside(self, where: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Check a row to judge by; it has no part in the ranges."""
        fitted = self._fit(where, arrays)
        self.held_digests.append(digest(fitted))
        return fitted

    def notes(self) -> list[str]:
        """Say what was cast, which floats never vary, and which samples came more than once."""
        said = [f"calibration data of {name} was cast from {kinds}" for name, kinds in self._casts.items()]
        for spec in self.signature.inputs:
            low, high = self.ranges.get(spec.name, (0.0, 1.0))
            if low == high and "float" in spec.dtype:
                said.append(f"{spec.name} is {low:g} everywhere in the calibration data")
        twice = len(self.digests) - len(set(self.digests))
        if twice:
            said.append(f"{twice} of the {len(self.digests)} calibration samples repeat others")
        return said

    def _fit(self, where: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        takes = f"the model takes: {', '.join(map(str, self.signature.inputs))}"
        require_names(where, arrays, self.signature)
        fitted = {}
        sizes: dict[str, int] = {}
        for spec in self.signature.inputs:
            try:
                array = self._cast(spec, arrays[spec.name])
                _check(spec, array, sizes)
            except UsageError as error:
                raise UsageError(f"{where}: {spec.name} {error.message}", fix=error.fix or takes) from None
            fitted[spec.name] = array
        return fitted

    def _cast(self, spec: TensorSpec, array: np.ndarray) -> np.ndarray:
        """Give an array in the dtype of `spec`, where that loses nothing that counts."""
        import numpy as np

        require_kind(spec, array.dtype)
        if array.dtype == spec.dtype:
            return np.ascontiguousarray(array).reshape(array.shape)
        with np.errstate(over="ignore"):
            cast = array.astype(spec.dtype)
        if array.dtype.kind in "iu" and not np.array_equal(cast, array):
            raise UsageError(f"holds {array.min()}..{array.max()}, which is more than {spec.dtype} holds")
        if array.dtype.kind == "f" and not np.array_equal(np.isfinite(cast), np.isfinite(array)):
            raise UsageError(f"holds values too large for {spec.dtype}")
        self._casts[spec.name] = f"{array.dtype} to {spec.dtype}"
        return cast


def require_names(where: str, names: object, signature: Signature) -> None:
    """Raise UsageError unless `names` are exactly those of the model's inputs."""
    given, expected = list(names), [spec.name for spec in signature.inputs]  # type: ignore[call-overload]
    takes = f"the model takes: {', '.join(map(str, signature.inputs))}"
    for name in [*(name for name in given if name not in expected), *(name for name in expected if name not in given)]:
        raise UsageError(f"{where} {'has an array' if name in given else 'has no array'} {name!r}", fix=takes)


def require_kind(spec: TensorSpec, dtype: np.dtype[np.generic]) -> None:
    """Raise UsageError where a dtype is of another kind than the input: floats, integers or booleans."""
    import numpy as np

    kinds = {"i": "integers", "u": "integers", "f": "floats", "b": "booleans"}
    have, want = kinds.get(dtype.kind), kinds[np.dtype(spec.dtype).kind]
    if have == want:
        return
    if have == "integers" and want == "floats":
        raise UsageError(
            f"holds integers ({dtype}), and the model takes {spec.dtype}",
            fix="scale them as in training and save them as float32; for image files see --preprocess scale=...",
        )
    raise UsageError(f"holds {have or f'{dtype}, no numbers'}, and the model takes {spec.dtype}")


def _check(spec: TensorSpec, array: np.ndarray, sizes: dict[str, int]) -> None:
    """Raise UsageError where one row's array does not fit its input; `sizes` collects those of free dimensions."""
    import numpy as np

    wrong = spec.mismatch(array)
    if wrong:
        raise UsageError(f"does not fit: {wrong}")
    if not array.size:
        raise UsageError("is empty")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        what = "NaN" if np.isnan(array).any() else "infinity"
        raise UsageError(f"holds {what}", fix="leave such samples out, or repair what makes them")
    if array.dtype.kind in "iu" and spec.low is not None and spec.high is not None:
        low, high = int(array.min()), int(array.max())
        if low < spec.low or high > spec.high:
            raise UsageError(f"holds {low}..{high}, outside {spec.low}..{spec.high}")
    for dimension, size in zip(spec.shape, array.shape, strict=True):
        if isinstance(dimension, str) and sizes.setdefault(dimension, size) != size:
            raise UsageError(
                f"has {dimension} {size}, and another input has it {sizes[dimension]}",
                fix="dimensions of one name are one size",
            )


def digest(arrays: dict[str, np.ndarray]) -> str:
    """Hash a row: names, dtypes, shapes and bytes, in the order of the inputs."""
    import numpy as np

    hashed = hashlib.sha256()
    for name, array in arrays.items():
        hashed.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()
