"""Where NaN and infinity of an input reach the outputs, in the source and in an artifact: reported, not judged.

Engines differ here rightfully: a maximum, of two values or over a window, gives NaN or not by the order in which it
compares. Behind one max-pool NaN is in 36 of 64 elements in PyTorch, in 16 in ONNX Runtime, in 8 in LiteRT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from validators.inputs import CaseSet
from validators.runtimes import Outputs
from validators.verdict import Finding, Status

if TYPE_CHECKING:
    import numpy as np

    Stored = Mapping[str, "np.ndarray"]

CHECK = "propagation"


def spreading(
    source: Outputs,
    native: Stored,
    artifact: Outputs,
    actual: Stored,
    cases: CaseSet,
    outputs: Sequence[tuple[str, str]],
) -> Iterator[Finding]:
    """Say for every case with one NaN or infinity whether the artifact's outputs are finite where its source's are."""
    unable = dict(artifact.failures)
    alike, told = [], False
    for case, what in cases.spread:
        if case in dict(source.failures) or not any(f"{case}/{expected}" in native for expected, _ in outputs):
            continue
        if case in unable:
            told = True
            refused = f"with one {what} the artifact does not run: {unable[case].splitlines()[0]}"
            yield Finding(CHECK, Status.PASS, refused, what.partition(" in ")[2])
            continue
        for expected, found in outputs:
            want, have = native[f"{case}/{expected}"], actual.get(f"{case}/{found}")
            if have is None or have.shape != want.shape or want.dtype.kind != "f":
                continue
            apart = _apart(expected, want, have)
            if apart:
                told = True
                yield Finding(CHECK, Status.PASS, f"with one {what}, {apart}", expected)
            else:
                alike.append(what)
    if alike and not told:
        words = "NaN and infinity in an input reach the same places of the outputs as in the source"
        yield Finding(CHECK, Status.PASS, words)


def _apart(name: str, want: np.ndarray, have: np.ndarray) -> str:
    """Say in how many places only one side is not finite; nothing where there is none."""
    import numpy as np

    theirs, ours = ~np.isfinite(want), ~np.isfinite(have)
    if (theirs == ours).all():
        return ""
    counts = f"{int(theirs.sum())} in the source and {int(ours.sum())} in the artifact"
    return f"of {want.size} elements of {name} those that are NaN or infinite are {counts}"
