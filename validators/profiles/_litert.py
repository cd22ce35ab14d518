"""LiteRT's C interface, as far as its profiler needs it: the Python package wraps all else and not that.

NOTE: Why by its C interface: neither `Interpreter` nor `CompiledModel` of the Python package gives its profiler out.
The library exports it, as headers under litert/c of LiteRT describe, and it is the engine that latency is measured on,
with the same delegate. Its interface is not stable, so it is called for the versions only that it was tried with.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import byref, c_bool, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint, c_uint32, c_uint64
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError

if TYPE_CHECKING:
    import numpy as np

#: Versions of ai-edge-litert whose interface is this one.
VERSIONS = ("2.3",)

POINTER_TO = ctypes.c_void_p
CPU = 1  # kLiteRtHwAcceleratorCpu
WRITE = 1  # how a buffer is locked
MOST_AXES = 8

#: Kinds of events (tflite/core/api/profiler.h): a node of the interpreter, and an operator inside a delegate. The
#: latter have no time of their beginning; they come in the order that they ran in.
NODE, INSIDE = 1 << 1, (1 << 2, 1 << 3)


class _Layout(ctypes.Structure):
    _fields_ = (  # litert_layout.h
        ("rank", c_uint, 7),
        ("has_strides", c_bool, 1),
        ("dimensions", c_int32 * MOST_AXES),
        ("strides", c_uint32 * MOST_AXES),
    )


class _Ranked(ctypes.Structure):
    _fields_ = (("element_type", c_int), ("layout", _Layout))


class _Event(ctypes.Structure):
    _fields_ = (  # litert_profiler_event.h, with three numbers of memory before and three after
        ("tag", c_char_p),
        ("kind", c_int),
        ("start", c_uint64),
        ("elapsed", c_uint64),
        ("memory", c_int64 * 6),
        ("first", c_uint64),
        ("second", c_uint64),
        ("source", c_int),
    )


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that LiteRT timed: an operator, which of the graph's or of the delegate's, and its microseconds."""

    name: str
    delegated: bool
    elapsed: int
    index: int


class Profiled:
    """A file opened by LiteRT with its profiler on; runs it on fixed arrays. Lives until its process ends."""

    def __init__(self, path: Path, given: dict[str, np.ndarray]) -> None:
        import ai_edge_litert

        version = metadata.version("ai-edge-litert")
        if not version.startswith(tuple(f"{known}." for known in VERSIONS)):
            raise LoadError(
                f"LiteRT's profiler is known of ai-edge-litert {', '.join(VERSIONS)}, and {version} is installed",
                fix=f'pip install "ai-edge-litert=={VERSIONS[-1]}.*", or leave --profile out',
            )
        place = Path(ai_edge_litert.__file__).parent / "libLiteRt.so"
        try:
            self._library = ctypes.CDLL(str(place))
        except OSError as error:
            raise LoadError(f"LiteRT's library cannot be opened: {error}", fix="leave --profile out") from error
        self._path, self._given = path, given
        self._kept: list[Any] = []
        self._open()

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, name)
        function.restype = c_int
        status = function(*arguments)
        if status:
            raise LoadError(f"{name} of LiteRT gave status {status}", fix="leave --profile out")

    def _made(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """Call what writes one pointer to its last argument."""
        found = POINTER_TO()
        self._call(name, *arguments, byref(found))
        return found

    def _open(self) -> None:
        self._environment = self._made("LiteRtCreateEnvironment", c_int(0), None)
        self._model = self._made("LiteRtCreateModelFromFile", self._environment, str(self._path).encode())
        options = self._made("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, c_int(CPU))
        text = ctypes.create_string_buffer(b"enable_profiling = true\n")
        free = ctypes.CFUNCTYPE(None, POINTER_TO)(lambda _: None)
        self._kept += [text, free]
        opaque = self._made("LiteRtCreateOpaqueOptions", b"runtime_options_string", text, free)
        self._call("LiteRtAddOpaqueOptions", options, opaque)
        self._compiled = self._made("LiteRtCreateCompiledModel", self._environment, self._model, options)
        self._profiler = self._made("LiteRtCompiledModelGetProfiler", self._compiled)
        signature = self._made("LiteRtGetModelSignature", self._model, c_size_t(0))
        names = self._names(signature, "Input")
        if set(names) - set(self._given):
            raise LoadError(f"its signature takes {', '.join(names)}, which is not what it is run on")
        for at, name in enumerate(names):
            self._resize(at, self._given[name].shape)
        self._inputs = (POINTER_TO * len(names))(
            *[self._filled(signature, at, self._given[name]) for at, name in enumerate(names)]
        )
        outputs = len(self._names(signature, "Output"))
        layouts = (_Layout * outputs)()
        self._call(
            "LiteRtGetCompiledModelOutputTensorLayouts",
            self._compiled,
            c_size_t(0),
            c_size_t(outputs),
            layouts,
            c_bool(1),
        )
        self._outputs = (POINTER_TO * outputs)(
            *[self._buffer(signature, "Output", at, layouts[at]) for at in range(outputs)]
        )

    def _names(self, signature: ctypes.c_void_p, side: str) -> list[str]:
        count = c_size_t()
        self._call(f"LiteRtGetNumSignature{side}s", signature, byref(count))
        names = []
        for at in range(count.value):
            name = c_char_p()
            self._call(f"LiteRtGetSignature{side}Name", signature, c_size_t(at), byref(name))
            names.append((name.value or b"").decode())
        return names

    def _resize(self, at: int, shape: tuple[int, ...]) -> None:
        sizes = (c_int * len(shape))(*shape)
        first = c_size_t(0)
        arguments = (self._compiled, first, c_size_t(at), sizes, c_size_t(len(shape)))
        layout = _Layout()
        self._call("LiteRtGetCompiledModelInputTensorLayout", self._compiled, first, c_size_t(at), byref(layout))
        if tuple(layout.dimensions[: layout.rank]) != shape:
            self._call("LiteRtCompiledModelResizeInputTensor", *arguments)

    def _buffer(self, signature: ctypes.c_void_p, side: str, at: int, layout: _Layout) -> int:
        tensor = self._made(f"LiteRtGetSignature{side}TensorByIndex", signature, c_size_t(at))
        ranked = _Ranked()
        self._call("LiteRtGetRankedTensorType", tensor, byref(ranked))
        ranked.layout = layout
        needs = self._made(f"LiteRtGetCompiledModel{side}BufferRequirements", self._compiled, c_size_t(0), c_size_t(at))
        made = self._made("LiteRtCreateManagedTensorBufferFromRequirements", self._environment, byref(ranked), needs)
        return int(made.value or 0)

    def _filled(self, signature: ctypes.c_void_p, at: int, array: np.ndarray) -> int:
        layout = _Layout(rank=array.ndim)
        layout.dimensions[: array.ndim] = array.shape
        buffer = self._buffer(signature, "Input", at, layout)
        held = POINTER_TO()
        self._call("LiteRtLockTensorBuffer", POINTER_TO(buffer), byref(held), c_int(WRITE))
        ctypes.memmove(held, array.ctypes.data, array.nbytes)
        self._call("LiteRtUnlockTensorBuffer", POINTER_TO(buffer))
        return buffer

    def run(self) -> None:
        """Run once."""
        sides = (c_size_t(len(self._inputs)), self._inputs, c_size_t(len(self._outputs)), self._outputs)
        self._call("LiteRtRunCompiledModel", self._compiled, c_size_t(0), *sides)

    def timed(self) -> list[Event]:
        """Run once with the profiler on, and give what it timed."""
        self._call("LiteRtResetProfiler", self._profiler)
        self._call("LiteRtStartProfiler", self._profiler)
        self.run()
        self._call("LiteRtStopProfiler", self._profiler)
        return list(self._events())

    def _events(self) -> Iterator[Event]:
        count = c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, byref(count))
        events = (_Event * count.value)()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, events)
        for event in events:
            if event.kind == NODE or event.kind in INSIDE:
                yield Event((event.tag or b"").decode(), event.kind != NODE, event.elapsed, event.first)
