"""ONNX Runtime's own profile: every kernel of the optimised graph."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from validators.profiles import PROFILERS, WARM_UPS, Operator, Profiler, Taken, repeat, typical
from validators.runtimes import Arrays, Subject, cannot_open
from validators.runtimes.onnxruntime import ONNXRUNTIME

ENGINE = "ONNX Runtime, by its own profiler"


def take(subject: Subject, given: Arrays) -> Taken:
    """Run a file with profiling on, and read the time of each kernel from what the engine wrote."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = subject.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = onnxruntime.InferenceSession(subject.file.path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise cannot_open("ONNX Runtime", subject.file.path, error) from error
        names = [output.name for output in session.get_outputs()]
        runs, seconds = repeat(lambda: session.run(names, dict(given)))
        events = json.loads(Path(session.end_profiling()).read_text())
        optimised = onnx.load(options.optimized_model_filepath, load_external_data=False)
        original = onnx.load(subject.file.path, load_external_data=False)
    return Taken(ENGINE, runs, tuple(operators_of(events, optimised, original)), seconds)


def operators_of(events: list[dict[str, Any]], optimised: Any, original: Any) -> list[Operator]:
    """Read the kernels from a profile's events, in the order of their first run; warm-ups do not count."""
    seen: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            key = (name, event["args"]["op_name"], event["args"].get("node_index", ""))
            seen[key].append(event["dur"] * 1e-6)
    nodes = {node.name: node for node in optimised.graph.node if node.name}
    constants = {tensor.name for tensor in optimised.graph.initializer}
    layer = _layers(original)
    found = []
    for key, seconds in typical({key: times[WARM_UPS:] or times for key, times in seen.items()}).items():
        name, kind, _ = key
        node = nodes.get(name)
        weight = next((taken for taken in node.input[1:] if taken in constants), "") if node is not None else ""
        found.append(Operator(kind, layer(node) if node is not None else name, seconds, weight=weight))
    return found


def _layers(original: Any) -> Any:
    """Give what names the layer of a node of the optimised graph by what the file says of its output."""
    from validators.taps.onnxruntime import BLOCKED, Said

    said = Said(original)

    def layer(node: Any) -> str:
        output = said.blocked(node) if node.domain == BLOCKED else said.quantized(node, node.output[0])
        return next(iter(said.layers(output)), output)

    return layer


PROFILERS.register(Profiler("onnx", ONNXRUNTIME, take))
