"""The nouns that travel between stages: frozen, numpy only, and JSON both ways through msgspec."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from convert.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from convert.device import DeviceRequest

#: One axis of a tensor: its size, or the name of a free dimension. Equal names mean equal sizes.
Dim = int | str

#: The name every source gives to a leading axis that its file leaves open.
BATCH = "batch"

DTYPES = ("float32", "float16", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")

#: Where an image's channels are; `KEEP` leaves them where the source has them.
KEEP, NCHW, NHWC = "keep", "nchw", "nhwc"
LAYOUTS = (KEEP, NHWC, NCHW)

#: Kinds of operators that a stock runtime lacks, refused unless allowed: TensorFlow's own, and anyone's.
FLEX, CUSTOM = "flex", "custom"
FOREIGN = (FLEX, CUSTOM)

#: What an artifact's numbers are stored and computed in. `fp16`: weights, and where the runtime does, arithmetic in
#: half precision; `int8-dynamic`: int8 weights, activations quantized as they come; `int8` and `int16x8`: both
#: quantized with ranges from calibration data, activations in 8 or 16 bits; `int8-weights` and `int4-weights`: weights
#: only, float arithmetic.
FP32, FP16, INT8_DYNAMIC, INT8 = "fp32", "fp16", "int8-dynamic", "int8"
INT16X8, INT8_WEIGHTS, INT4_WEIGHTS = "int16x8", "int8-weights", "int4-weights"
PRECISIONS = (FP32, FP16, INT8_DYNAMIC, INT8, INT16X8, INT8_WEIGHTS, INT4_WEIGHTS)

#: Those that take their ranges from calibration data.
CALIBRATED = (INT8, INT16X8)

#: What a quantized artifact takes and gives: floats, or quantized integers with a scale and a zero point.
FLOAT_IO = "float"
IO_TYPES = (FLOAT_IO, "int8", "uint8")

#: Traits of models at which converters differ: recurrent layers, and sampling an image at computed places.
RECURRENT, GRID_SAMPLE = "recurrent", "grid_sample"

SIGNATURE_FILE = "signature.json"  # the extra file in TorchScript and .pt2 archives

_SPEC = re.compile(
    r"""\s*(?P<name>[^:=\[\]]+?)\s*
        :\s*(?P<dtype>\w+)\s*
        \[(?P<shape>[^\]]*)\]\s*
        (?:=\s*(?P<low>-?\d+)\s*\.\.\s*(?P<high>-?\d+)\s*)?$""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Scale:
    """How an integer stands for a number: `scale * (integer - zero_point)`."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named input or output of a model: its dtype, its shape and, for integers, its range.

    `low` and `high` bound integer inputs, both ends included; None where nothing is known. `layout` is where an image
    has its channels, `nchw` or `nhwc`; empty for what is no image. `quantized` is set where integers stand for floats.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    low: int | None = None
    high: int | None = None
    layout: str = ""
    quantized: Scale | None = None

    @classmethod
    def parse(cls, text: str) -> TensorSpec:
        """Read `name:dtype[dim,dim,...]`, integers optionally with `=low..high`.

        >>> TensorSpec.parse("ids:int64[batch,16]=0..99").shape
        ('batch', 16)
        """
        form = "write it as NAME:DTYPE[DIM,...], for example 'image:float32[batch,1,8,8]' or 'ids:int64[1,16]=0..99'"
        match = _SPEC.match(text)
        if match is None:
            raise UsageError(f"cannot read the tensor {text!r}", fix=form)
        if match["dtype"] not in DTYPES:
            raise UsageError(
                f"{match['dtype']!r} in {text!r} is no dtype edgeproof knows", fix=f"use one of: {', '.join(DTYPES)}"
            )
        shape: list[Dim] = []
        for raw in (part.strip() for part in match["shape"].split(",")) if match["shape"].strip() else ():
            if raw.isascii() and raw.isdigit() and int(raw) > 0:
                shape.append(int(raw))
            elif raw.isidentifier():
                shape.append(raw)
            else:
                raise UsageError(f"{raw!r} in {text!r} is neither a size above zero nor a dimension's name", fix=form)
        low, high = (None if match[end] is None else int(match[end]) for end in ("low", "high"))
        if low is not None and high is not None and not _holds(match["dtype"], low, high):
            raise UsageError(
                f"the range {low}..{high} in {text!r} fits no {match['dtype']} input",
                fix="ranges are for integer inputs, the lower end first, both within the dtype",
            )
        return cls(match["name"], match["dtype"], tuple(shape), low, high)

    def __str__(self) -> str:
        bounds = "" if self.low is None else f"={self.low}..{self.high}"
        return f"{self.name}:{self.dtype}[{','.join(map(str, self.shape))}]{bounds}"

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the free dimensions, in order of their axes."""
        return tuple(dim for dim in self.shape if isinstance(dim, str))

    def sized(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """Give the shape with every free dimension replaced by its size in `sizes`."""
        return tuple(sizes[dim] if isinstance(dim, str) else dim for dim in self.shape)

    def mismatch(self, array: np.ndarray) -> str | None:
        """Say why `array` does not fit this spec, or None when it fits."""
        if array.dtype != self.dtype:
            return f"dtype is {array.dtype}, expected {self.dtype}"
        fits = len(array.shape) == len(self.shape) and all(
            isinstance(dim, str) or dim == size for dim, size in zip(self.shape, array.shape, strict=True)
        )
        if not fits:
            return f"shape is {list(array.shape)}, expected [{','.join(map(str, self.shape))}]"
        return None


def _holds(dtype: str, low: int, high: int) -> bool:
    """Whether an integer dtype holds the whole range from `low` to `high`."""
    kind, _, bits = dtype.rpartition("int")
    if not bits.isdigit():
        return False
    least = 0 if kind == "u" else -(1 << (int(bits) - 1))
    return least <= low <= high <= least + (1 << int(bits)) - 1


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model promises: its inputs and outputs, named and in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def free(self) -> tuple[str, ...]:
        """Names of all free input dimensions, each once, in order of appearance."""
        return tuple(dict.fromkeys(dim for spec in self.inputs for dim in spec.free))

    def fixed(self, sizes: dict[str, int]) -> Signature:
        """Give this signature with the free dimensions named in `sizes` fixed to those sizes."""

        def fix(spec: TensorSpec) -> TensorSpec:
            return replace(spec, shape=tuple(sizes.get(d, d) if isinstance(d, str) else d for d in spec.shape))

        return Signature(tuple(map(fix, self.inputs)), tuple(map(fix, self.outputs)))

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.inputs))}) -> ({', '.join(map(str, self.outputs))})"


@dataclass(frozen=True, slots=True)
class Promise:
    """What travels inside a TorchScript or `.pt2` archive as `signature.json`.

    `outputs` are full specs where the writer knew them, else only names; the loader measures the rest.
    """

    inputs: tuple[TensorSpec, ...]
    output_names: tuple[str, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


def signature_file(*inputs: str, outputs: tuple[str, ...] | list[str] = ()) -> dict[str, str]:
    """Describe a model's inputs and output names as the extra file that edgeproof reads from an archive.

        torch.jit.save(scripted, "digits.pt", _extra_files=signature_file("image:float32[batch,1,8,8]"))
        torch.export.save(exported, "digits.pt2", extra_files=signature_file("image:float32[batch,1,8,8]"))

    `inputs` are specs as `--input` takes them; `outputs` names the outputs in the order the model returns them
    (default: dictionary keys, else `output`, or `output_0`, `output_1`, ...). Raises UsageError on a bad spec.
    """
    promise = Promise(tuple(TensorSpec.parse(text) for text in inputs), tuple(outputs))
    return {SIGNATURE_FILE: msgspec.json.encode(promise).decode()}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A model file that was recognised by its content."""

    path: str
    kind: str  # the name of the source plug-in that reads it
    detail: str  # what it was recognised as, for people
    sha256: str
    file_bytes: int


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the user adds to a model file so that it can be loaded."""

    architecture: str = ""  # package.module:callable or path/file.py:callable
    inputs: tuple[TensorSpec, ...] = ()  # as stated; they narrow what a file says itself
    examples: tuple[TensorSpec, ...] = ()  # as example data has them; used where nothing else tells
    trust: bool = False
    signature: str = ""  # which one, of a file that holds several
    fixed: tuple[tuple[str, int], ...] = ()  # free dimensions to give a size


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What loading a source told: plain data, so that it can leave the worker."""

    signature: Signature
    parameters: int
    notes: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()  # what converters differ at, such as RECURRENT; see `convert.plan`


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished file, or folder, of one format and precision, with the contract written into it.

    `sha256` and `file_bytes` are of everything that belongs to it; see `fingerprint`. `rescues` are the rewrites
    without which it could not be.
    """

    path: str
    format: str
    precision: str
    signature: Signature
    sha256: str
    file_bytes: int
    notes: tuple[str, ...] = ()
    rescues: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()  # files beside `path` without which it cannot be read


@dataclass(frozen=True, slots=True)
class Limits:
    """What one stage may use before it is stopped."""

    timeout_seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class QualityGate:
    """How good a reduced artifact has to be, as the user stated it; None for the default of its precision.

    `labels` is a file of the right answers to the rows of the inputs file, `metric` a callable
    `package.module:callable` that scores outputs; see `validators.quality`.
    """

    labels: str = ""
    metric: str = ""
    min_agreement: float | None = None  # share of equal top answers, 0 to 1
    max_accuracy_drop: float | None = None  # share of the float model's metric that may be lost, 0 to 1
    min_sqnr_db: float | None = None


@dataclass(frozen=True)
class Request:
    """One run of the tool, as asked for."""

    model: str
    targets: tuple[str, ...]
    out: str = ""  # default: build/<model name>
    options: LoadOptions = field(default_factory=LoadOptions)
    inputs_file: str = ""  # the user's own inputs, an .npz
    seed: int = 0
    threads: tuple[int, ...] = (1,)
    protocol: str = "default"  # of `validators.protocol`
    timeout_seconds: float = 1800.0
    memory_bytes: int = 0  # 0: nine tenths of this machine's memory
    layout: str = KEEP  # of image inputs, where the target's files can have either
    race: bool = False
    via: str = ""  # a candidate, or a route that candidates must take
    allow: tuple[str, ...] = ()  # kinds of operators a stock runtime lacks; see `FOREIGN`
    precisions: tuple[str, ...] = (FP32,)
    io: str = FLOAT_IO
    calibration: str = ""  # where calibration data comes from; see `convert.calibration`
    preprocess: str = ""  # how images of it become inputs
    recipe: str = ""  # a recipe file to repeat
    gate: QualityGate = field(default_factory=QualityGate)
    search_seconds: float = 600.0  # that the search for a mixed precision may take, per artifact
    self_test: bool = False  # whether to plant faults in what is proven and see whether they are caught
    golden: str = ""  # folder for golden vectors of what is proven
    instructions: bool = False  # whether to count the instructions that an inference executes
    profile: bool = False  # whether to time every operator
    baseline: str = ""  # an artifact released before, to be held against
    max_regression: float | None = None  # share by which it may be slower than that; None for the default
    policy: str = ""  # a file of what artifacts are held against beside the tool's own bounds
    device: DeviceRequest | None = None  # to time on; None for this machine
    command: str = ""

    @cached_property
    def name(self) -> str:
        """The model's name, which its artifacts carry: the file's name without its suffix, or the folder's."""
        path = Path(self.model)
        if path.is_dir():
            return path.resolve().name
        return path.name.removesuffix(".tar.gz") if path.name.endswith(".tar.gz") else path.stem

    @cached_property
    def folder(self) -> Path:
        """Where the artifacts and the report go."""
        return Path(self.out) if self.out else Path("build") / self.name


def check_run(seed: int, threads: tuple[int, ...], timeout_seconds: float, memory_bytes: int) -> None:
    """Raise UsageError, naming the option, for numbers with which nothing can be run."""
    if seed < 0:
        raise UsageError(f"--seed {seed} is negative", fix="give 0 or more")
    if any(count < 1 for count in threads):
        raise UsageError(f"--threads {','.join(map(str, threads))} has a number below 1", fix="give 1, or 1,4")
    if not timeout_seconds > 0:
        raise UsageError(f"--timeout {timeout_seconds:g} is no time limit", fix="give seconds above zero")
    if memory_bytes < 0:
        raise UsageError(f"--memory-limit {memory_bytes} is negative", fix="give GiB above zero")


def specs_from(texts: Iterable[str]) -> tuple[TensorSpec, ...]:
    """Read the inputs a user stated; raises UsageError for one that cannot be read or is stated twice."""
    specs = tuple(TensorSpec.parse(text) for text in texts)
    names = [spec.name for spec in specs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--input states {twice!r} twice", fix="state every input once")
    return specs


def command_line(program: str, subject: str, options: Iterable[tuple[str, str | bool]]) -> str:
    """Give the command line that repeats a run: options with an empty value are left out, True stands for a flag."""
    words = ["python", "-m", program, subject]
    for name, value in options:
        if value:
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(words)


def gate_words(gate: QualityGate) -> tuple[tuple[str, str], ...]:
    """Give the options that state a gate, for `command_line`."""
    numbers = (
        ("min-agreement", gate.min_agreement),
        ("max-accuracy-drop", gate.max_accuracy_drop),
        ("min-sqnr-db", gate.min_sqnr_db),
    )
    stated = tuple((name, f"{number:g}") for name, number in numbers if number is not None)
    return (("labels", gate.labels), ("metric", gate.metric), *stated)


def sha256_of(path: Path) -> str:
    """Hash a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(path: Path, companions: Iterable[Path] = ()) -> tuple[str, int]:
    """Give the SHA-256 and the bytes of a file, or of a folder's files, with the companions beside it.

    One file has the hash of its bytes; several have that of the lines `<sha256>  <relative name>`, sorted by name, as
    the command `sha256sum` prints them.
    """
    home = path if path.is_dir() else path.parent
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path, *companions]
    total = sum(file.stat().st_size for file in files)
    if files == [path]:
        return sha256_of(path), total
    lines = sorted((file.relative_to(home).as_posix(), sha256_of(file)) for file in files)
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in lines).encode()).hexdigest(), total


def share_from(text: str, option: str) -> float:
    """Read `5%` or `0.05`; raises UsageError, naming the option, for what is no share from 0 up to 10."""
    number, per_cent = text.strip().removesuffix("%").strip(), text.strip().endswith("%")
    fix = f"write it as a share, for example --{option} 5% or --{option} 0.05"
    try:
        share = float(number) / (100 if per_cent else 1)
    except ValueError:
        raise UsageError(f"cannot read --{option} {text!r}", fix=fix) from None
    if not 0 <= share <= 10 or (share >= 1 and not per_cent):
        raise UsageError(f"--{option} {text} is no share that makes sense", fix=fix)
    return share


def sizes_from(texts: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Read `--fix batch=1`; raises UsageError for what cannot be read or is stated twice."""
    form = "write it as NAME=SIZE, for example --fix batch=1"
    sizes: dict[str, int] = {}
    for text in texts:
        name, equals, size = text.partition("=")
        if not equals or not name.strip() or not size.strip().isdecimal() or int(size) < 1:
            raise UsageError(f"cannot read --fix {text!r}", fix=form)
        if name.strip() in sizes:
            raise UsageError(f"--fix states {name.strip()!r} twice", fix="state every dimension once")
        sizes[name.strip()] = int(size)
    return tuple(sizes.items())
