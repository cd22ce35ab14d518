"""Golden vectors: what an app's own test feeds an artifact on a phone, and what `replay` judges the answers by.

A folder of them holds `index.json`; the inputs as the artifact takes them and the answers of its source, as raw
little-endian binaries and as two `.npz`; and, for the verdict, the source's own outputs and the float64 oracle's. The
answers of a device are judged by `parity`, by the same rules as the artifact was on this machine.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from convert.errors import UsageError
from convert.folder import write_text
from convert.spec import Artifact
from validators import parity, tolerance
from validators.inputs import CaseSet
from validators.prove import Baseline, Proof
from validators.rounding import rounding_beside
from validators.runtimes import REPEAT, Outputs, dequantized, feed, quantized
from validators.structure import Binding
from validators.verdict import Verdict

if TYPE_CHECKING:
    import numpy as np

    Stored = Mapping[str, np.ndarray]

VERSION = 1
INDEX, INPUTS, EXPECTED = "index.json", "inputs", "expected"
SIDES = ("source", "oracle", "ideal")  # what the verdict is found by, an `.npz` each


@dataclass(frozen=True, slots=True)
class Vector:
    """One tensor of one case: a raw little-endian binary, in C order.

    An expected float output may differ by `rmse_limit` in root mean square over its elements; None: all are equal.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str  # in the golden folder; of an output, `outputs/<file's name>` is what the device writes
    rmse_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One inference to make: the inputs to give and the outputs to expect."""

    case: str
    inputs: tuple[Vector, ...]
    outputs: tuple[Vector, ...]


@dataclass(frozen=True, slots=True)
class Golden:
    """The index of a folder of golden vectors."""

    version: int
    artifact: str  # the file's name
    sha256: str
    format: str
    precision: str
    byte_order: str
    steps: tuple[Step, ...]
    cases: CaseSet
    binding: Binding
    oracle: bool  # whether the source ran in float64, or why not
    oracle_reason: str
    ideal: bool  # whether a reduced precision is judged by a simulation
    source_names: tuple[str, ...]


def check_place(place: Path) -> None:
    """Raise UsageError where `place` cannot be written, or is no folder of golden vectors, which may be replaced."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place.parent):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write golden vectors to {place.parent}: {error.strerror}", fix="give another folder to --golden"
        ) from error
    if place.exists() and not (place / INDEX).is_file() and (not place.is_dir() or any(place.iterdir())):
        raise UsageError(f"{place} holds something else than golden vectors", fix="give another folder to --golden")


def write(place: Path, baseline: Baseline, artifact: Artifact, proof: Proof) -> Path:
    """Write the golden vectors of a proven artifact to the folder `place`, in one step, and give the index's path.

    Raises ValueError for an artifact that was not proven, UsageError where the folder holds something else.
    """
    import numpy as np

    if proof.binding is None or proof.facts is None:
        raise ValueError("only what was proven has golden vectors")
    check_place(place)
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for part in (INPUTS, EXPECTED):
            (partial / part).mkdir(parents=True)
        usable = baseline.cases.fitting(dict(proof.binding.fixed))
        sides = {"source": baseline.outputs.native, "oracle": baseline.outputs.oracle, "ideal": proof.ideal}
        for name, outputs in sides.items():
            if outputs is not None:
                shutil.copyfile(outputs.path, partial / f"{name}.npz")
        with np.load(baseline.cases.path) as arrays:
            given = {case: feed(arrays, case, proof.binding.feeds) for case in usable}
        # A source with a state answers otherwise when its first input comes again.
        expected = _expected(baseline, proof, (*usable, REPEAT) if baseline.cases.steps else usable)
        limits = _limits(partial, proof, artifact.precision, usable, dict(baseline.cases.twins))
        steps = tuple(
            Step(
                label,
                tuple(_vectors(partial, INPUTS, label, given[case], {})),
                tuple(_vectors(partial, EXPECTED, label, expected.get(label, expected[case]), limits.get(case, {}))),
            )
            for label, case in (*zip(usable, usable, strict=True), (REPEAT, usable[0]))
        )
        for name, found in ((INPUTS, given), (EXPECTED, expected)):
            stored = {f"{case}/{key}": array for case, named in found.items() for key, array in named.items()}
            np.savez(partial / f"{name}.npz", **stored)  # type: ignore[arg-type]
        index = Golden(
            version=VERSION,
            artifact=Path(artifact.path).name,
            sha256=artifact.sha256,
            format=artifact.format,
            precision=artifact.precision,
            byte_order="little",
            steps=steps,
            cases=dataclasses.replace(baseline.cases, path=f"{INPUTS}.npz"),
            binding=proof.binding,
            oracle=baseline.outputs.oracle is not None,
            oracle_reason=baseline.outputs.oracle_reason,
            ideal=proof.ideal is not None,
            source_names=baseline.outputs.native.names,
        )
        write_text(partial / INDEX, msgspec.json.format(msgspec.json.encode(index)).decode() + "\n")
        if place.exists():
            shutil.rmtree(place)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place / INDEX


def _expected(baseline: Baseline, proof: Proof, usable: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Give the source's answers, in double precision where they are known so, as the artifact's own types hold them."""
    import numpy as np

    if proof.binding is None or proof.facts is None:
        raise ValueError("only what was proven has golden vectors")
    dtypes = {spec.name: spec.dtype for spec in proof.facts.signature.outputs}
    scales = dict(proof.binding.scales)
    basis = baseline.outputs.oracle or baseline.outputs.native
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(basis.path) as answers:
        for case in usable:
            found[case] = {}
            for theirs, ours in proof.binding.outputs:
                array, scale = answers[f"{case}/{theirs}"], scales.get(ours)
                dtype = dtypes[ours]
                found[case][ours] = array.astype(dtype) if scale is None else quantized(array, dtype, scale)
    return found


def _limits(
    folder: Path, proof: Proof, precision: str, usable: tuple[str, ...], twins: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Give the rmse that parity allows each float output on each single case, by the artifact's names."""
    import numpy as np

    if proof.binding is None:
        raise ValueError("only what was proven has golden vectors")
    found: dict[str, dict[str, float]] = {}
    paths = {side: folder / f"{side}.npz" for side in SIDES}
    stored = {side: np.load(path) for side, path in paths.items() if path.exists()}
    try:
        basis = stored.get("oracle", stored["source"])
        for theirs, ours in proof.binding.outputs:
            peer, name = (stored["ideal"], ours) if "ideal" in stored else (stored["source"], theirs)
            for case in usable:
                want = basis[f"{case}/{theirs}"]
                if want.dtype.kind != "f":
                    continue
                wide = want.astype(np.float64)
                rms = float(np.sqrt(np.nanmean(np.square(wide)))) if wide.size else 0.0
                if basis is peer:
                    found.setdefault(case, {})[ours] = tolerance.SCALED_MAX[precision] * float(np.nanmax(np.abs(wide)))
                    continue
                error = float(np.sqrt(np.nanmean(np.square(peer[f"{case}/{name}"] - wide)))) if wide.size else 0.0
                if "ideal" not in stored and wide.size:
                    luck = rounding_beside(theirs, peer, basis, twins.get(case))
                    error = max(error, math.sqrt(luck / wide.size))
                bound = tolerance.RATIO_BOUNDS[precision] * tolerance.CASE_FACTOR
                limit = bound * max(error, tolerance.FLOOR * rms)
                found.setdefault(case, {})[ours] = limit if math.isfinite(limit) else 0.0
    finally:
        for file in stored.values():
            file.close()
    return found


def _vectors(
    folder: Path, part: str, label: str, named: Mapping[str, np.ndarray], limits: Mapping[str, float]
) -> Iterator[Vector]:
    """Write one case's arrays as raw binaries and describe each."""
    import numpy as np

    for name, array in named.items():
        file = f"{part}/{_stem(label, name)}.bin"
        ordered = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        (folder / file).write_bytes(ordered.tobytes())
        yield Vector(name, str(array.dtype), array.shape, file, limits.get(name))


def _stem(case: str, name: str) -> str:
    """Name a file after a case and a tensor, whatever characters that has."""
    return f"{case}.{urllib.parse.quote(name, safe=' ')}"


def read(place: Path) -> tuple[Path, Golden]:
    """Read the index of a golden folder, or of the only one inside `place`; gives the folder and the index.

    Raises UsageError where there is none, or several, or it cannot be read.
    """
    fix = "write one with python -m convert MODEL --to FORMAT --golden DIR"
    if not (place / INDEX).is_file():
        inside = sorted(path.parent for path in place.glob(f"*/{INDEX}"))
        if not inside:
            raise UsageError(f"{place} holds no golden vectors", fix=fix)
        if len(inside) > 1:
            raise UsageError(
                f"{place} holds the golden vectors of several artifacts", fix=f"name one: {', '.join(map(str, inside))}"
            )
        place = inside[0]
    try:
        index = msgspec.json.decode((place / INDEX).read_bytes(), type=Golden)
    except (msgspec.MsgspecError, OSError) as error:
        raise UsageError(f"{place / INDEX} cannot be read: {error}", fix=fix) from error
    if index.version != VERSION:
        raise UsageError(f"{place / INDEX} is of version {index.version}, this tool knows {VERSION}", fix=fix)
    for side in (INPUTS, "source", *(("oracle",) if index.oracle else ()), *(("ideal",) if index.ideal else ())):
        if not (place / f"{side}.npz").is_file():
            raise UsageError(f"{place} is incomplete: {side}.npz is missing", fix=fix)
    return place, index


def replay(golden: str | os.PathLike[str], answers: str | os.PathLike[str]) -> tuple[Golden, Verdict]:
    """Judge what a device answered to golden vectors, as `prove` would have.

    Args:
        golden: the golden folder.
        answers: a folder with `<case>.<output>.bin` (raw, little-endian, of the type and shape in the index) or
            `.npy` for every expected output, or an `.npz` with keys `<case>/<output>`.

    Returns:
        The index and the verdict. What is missing, or has another size, fails by name.

    Raises:
        UsageError: there are no golden vectors, or no answers at all, or they cannot be read.
    """
    place, index = read(Path(golden))
    found, odd = _answers(index, Path(answers))
    if odd:
        return index, Verdict.failed("outputs", odd)
    native = Outputs(str(place / "source.npz"), index.cases.names, index.source_names)
    oracle = dataclasses.replace(native, path=str(place / "oracle.npz")) if index.oracle else None
    ideal = dataclasses.replace(native, path=str(place / "ideal.npz")) if index.ideal else None
    reference = parity.Reference(native, oracle, index.oracle_reason)
    with tempfile.TemporaryDirectory() as folder:
        device = _as_outputs(index, found, Path(folder) / "answers.npz")
        return index, parity.judge(reference, device, index.cases, index.binding, index.precision, ideal)


def _answers(index: Golden, answered: Path) -> tuple[dict[str, np.ndarray], str]:
    """Read what a device answered, by `<case>/<output>`; and say what of it is not of the expected size, if any is."""
    import numpy as np

    expected = [(f"{step.case}/{vector.name}", step.case, vector) for step in index.steps for vector in step.outputs]
    if answered.is_file():
        try:
            with np.load(answered, allow_pickle=False) as file:
                found = {key: file[key] for key, _, _ in expected if key in file.files}
        except (OSError, ValueError, AttributeError, EOFError) as error:
            raise UsageError(f"cannot read {answered} as an .npz: {error}", fix=_FORM) from error
    elif answered.is_dir():
        found = {}
        for key, case, vector in expected:
            stem = _stem(case, vector.name)
            binary, array = answered / f"{stem}.bin", answered / f"{stem}.npy"
            if array.is_file():
                found[key] = _array(array)
            elif binary.is_file():
                raw = np.frombuffer(binary.read_bytes(), np.uint8)
                dtype = np.dtype(vector.dtype).newbyteorder("<")
                needed = math.prod(vector.shape) * dtype.itemsize
                if raw.size != needed:
                    shape = f"{vector.dtype}{list(vector.shape)}"
                    return {}, f"{binary.name} has {raw.size} bytes, and {shape} has {needed}"
                found[key] = raw.view(dtype).astype(vector.dtype).reshape(vector.shape)
    else:
        raise UsageError(f"there are no answers at {answered}", fix=_FORM)
    if not found:
        raise UsageError(f"{answered} holds none of the {len(expected)} answers", fix=_FORM)
    missing = [key for key, _, _ in expected if key not in found]
    if missing:
        return {}, f"{len(missing)} of {len(expected)} answers are missing, such as {missing[0]}"
    return found, ""


_FORM = "the device writes outputs/<case>.<output>.bin or .npy, or one .npz with keys <case>/<output>; see index.json"


def _array(path: Path) -> np.ndarray:
    import numpy as np

    try:
        found: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"cannot read {path}: {error}", fix=_FORM) from error
    return found


def _as_outputs(index: Golden, answers: Mapping[str, np.ndarray], path: Path) -> Outputs:
    """Write a device's answers as running the artifact here would have."""
    import numpy as np

    scales = dict(index.binding.scales)
    np.savez(path, **{key: dequantized(array, scales.get(key.partition("/")[2])) for key, array in answers.items()})  # type: ignore[arg-type]
    return Outputs(str(path), tuple(step.case for step in index.steps if step.case != REPEAT), ())
