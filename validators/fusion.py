"""What ONNX Runtime makes of a quantized file: what it computes in integers, and what stays between."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from validators.runtimes import cannot_open

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

#: Kernels that compute in integers, by how ONNX Runtime calls them.
INTEGER = ("QLinear", "QGemm", "QAttention", "MatMulInteger", "DynamicQuantize", "ConvInteger", "MatMulNBits")

#: Runs that are profiled, of which the middle one counts for each operator: the first are slow, and machines busy.
RUNS = 20

#: Kinds of float operators that are named; the rest are counted.
NAMED = 5

#: What a free dimension is taken to be while operators are timed.
FREE = 1

#: Shares of time below this are not told.
LEAST_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Fusion:
    """Operators of an optimised graph by kind, and the share of time each kind takes, empty where it was not timed."""

    kinds: tuple[tuple[str, int], ...]
    shares: tuple[tuple[str, float], ...] = ()

    def describe(self) -> str:
        """Say in a few words why the file may be slow; empty where nothing is converted to integers and back."""
        counts, times = dict(self.kinds), dict(self.shares)
        pairs = counts.get(QUANTIZE, 0) + counts.get(DEQUANTIZE, 0)
        if not pairs:
            return ""
        whole = sum(count for kind, count in self.kinds if kind.startswith(INTEGER))
        words = f"ONNX Runtime computes {whole} operator(s) in integers and converts {pairs} time(s) from or to floats"
        if times:
            words += f", which takes {times.get(QUANTIZE, 0) + times.get(DEQUANTIZE, 0):.0%} of the time"
        left = [one for one in self.kinds if one[0] not in (QUANTIZE, DEQUANTIZE) and not one[0].startswith(INTEGER)]
        left.sort(key=lambda one: (-times.get(one[0], 0), -one[1], one[0]))
        listed = ", ".join(
            f"{kind} {count}" + (f" ({times[kind]:.0%})" if times.get(kind, 0) >= LEAST_SHARE else "")
            for kind, count in left[:NAMED]
        )
        more = sum(count for _, count in left[NAMED:])
        if not listed:
            return words
        return f"{words}; in float: {listed}" + (f" and {more} more" if more else "")


def examine(path: Path) -> Fusion:
    """Load a file as apps do and see what its graph became, and what takes the time; runs in ONNX Runtime's worker.

    Raises LoadError where ONNX Runtime refuses the file.
    """
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise cannot_open("ONNX Runtime", path, error) from error
        optimised = onnx.load(options.optimized_model_filepath, load_external_data=False)
        counts = Counter(node.op_type for node in optimised.graph.node)
        return Fusion(tuple(counts.most_common()), _shares(session))


def _shares(session: Any) -> tuple[tuple[str, float], ...]:
    """Run on zeros and give the share of time by kind of operator; nothing where zeros at these sizes do not run."""
    import numpy as np

    kinds = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
    failed = False
    try:
        inputs = {
            spec.name: np.zeros(
                [size if isinstance(size, int) else FREE for size in spec.shape],
                kinds.get(spec.type, spec.type.removeprefix("tensor(").removesuffix(")")),
            )
            for spec in session.get_inputs()
        }
        for _ in range(RUNS):
            session.run(None, inputs)
    except Exception:  # noqa: BLE001  sizes of one may be too small for a network: then no shares are told
        failed = True
    seen: dict[tuple[str, str], list[int]] = defaultdict(list)  # by node: of the runs, the middle one counts
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            seen[event["args"]["op_name"], event["args"]["node_index"]].append(event["dur"])
    times: Counter[str] = Counter()
    for (kind, _), durations in seen.items():
        times[kind] += statistics.median(durations)  # type: ignore[assignment]  # of halves of microseconds, too
    total = sum(times.values())
    return () if failed or not total else tuple((kind, time / total) for kind, time in times.most_common())


def converted(path: Path) -> str:
    """Say what of a file ONNX Runtime converts to integers and back; empty where nothing is."""
    return examine(path).describe()
