"""An independent check: fresh inputs, answered by the original model and by an artifact, compared in a few lines.

It shares no code with the tool's own judging. `python fresh.py ARTIFACT FORMAT FRESH REPORTED` prints a JSON verdict.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from models import Entry

CASES = 4

#: Signal about its mean over noise that an fp32 artifact must reach. Right ones measure 90 dB and more; a MobileNetV3
#: of random weights, whose outputs hardly vary about their mean, 69 by every road; an epsilon bug, 30 to 60.
ENOUGH_DB = 65.0

#: Share of integer outputs (labels, indices) that must be equal; two scores may lie closer than rounding.
ENOUGH_EQUAL = 0.99

#: Sizes of free dimensions: an artifact that has fixed its batch has fixed it to one.
SIZES = {"batch": 1}
OTHER_SIZE = 16


def keep_answers(entry: Entry, model: Any, path: Path) -> None:
    """Run the model that was just built, in its own framework, on fresh inputs; keep inputs and outputs."""
    random = np.random.default_rng(20_26)
    arrays = {}
    for case in range(CASES):
        inputs = {name: drawn(random, *rest) for name, *rest in asked(entry, model)}
        for name, value in inputs.items():
            arrays[f"{case}|in|{name}"] = value
        for index, (name, value) in enumerate(answers(model, inputs)):
            arrays[f"{case}|out|{index}|{name}"] = value
    np.savez(path, **arrays)


def asked(entry: Entry, model: Any) -> list[tuple[str, str, list[int], int | None, int | None]]:
    """List a model's inputs: name, dtype, sizes and range."""
    from convert.spec import TensorSpec

    stated = {spec.name: spec for spec in map(TensorSpec.parse, entry.inputs)}
    if entry.builder.startswith(("torch_", "tf_models")) and stated:
        sizes = {name: SIZES.get(name, OTHER_SIZE) for spec in stated.values() for name in spec.free}
        return [(s.name, s.dtype, list(s.sized(sizes)), s.low, s.high) for s in stated.values()]
    if entry.builder.startswith("tf_models"):
        tensors = model.serve.input_signature
    elif entry.builder.endswith("hand_subclassed"):
        return [(name, "float32", [1, 3], None, None) for name in ("zeta", "alpha")]
    else:
        tensors = model.inputs
    found = []
    for tensor in tensors:
        name, dtype = tensor.name.partition(":")[0], getattr(tensor.dtype, "name", tensor.dtype)
        sizes = [size or (OTHER_SIZE if axis else 1) for axis, size in enumerate(tuple(tensor.shape))]
        low, high = (stated[name].low, stated[name].high) if name in stated else (None, None)
        found.append((name, dtype, sizes, low, high))
    return found


def drawn(random: np.random.Generator, dtype: str, shape: list[int], low: int | None, high: int | None) -> np.ndarray:
    if dtype == "string":
        return random.choice(np.array(["the dog sat on a road", "a model has no home"]), shape)
    if dtype == "bool":
        return random.random(shape) < 0.5
    if dtype.startswith("float"):
        return (random.standard_normal(shape) * random.uniform(0.5, 1.5)).astype(dtype)
    top = 255 if dtype == "uint8" else 1
    return random.integers(low or 0, top if high is None else high, shape, endpoint=True).astype(dtype)


def answers(model: Any, inputs: dict[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Run a model of any framework; outputs by name where it has them, else by position with an empty name."""
    if "torch" in sys.modules and isinstance(model, sys.modules["torch"].nn.Module):
        import torch

        with torch.no_grad():
            given = {name: torch.from_numpy(value.copy()) for name, value in inputs.items()}
            # By position but for transformers, whose arguments are many and named.
            named = hasattr(model, "config")
            made = model(**given) if named else model(*given.values())
        leaves = torch.utils._pytree.tree_leaves_with_path(made)
        return [
            (str(path[0].key) if len(path) == 1 and hasattr(path[0], "key") else "", leaf.numpy())
            for path, leaf in leaves
            if isinstance(leaf, torch.Tensor)
        ]
    import tensorflow as tf

    given = {name: tf.constant(value) for name, value in inputs.items()}
    if hasattr(model, "serve"):
        made = model.serve(**given)
    elif getattr(model, "inputs", None) is None or isinstance(getattr(model, "input", None), dict):
        made = model(given)
    else:
        made = model(list(given.values()) if len(given) > 1 else next(iter(given.values())))
    if isinstance(made, dict):
        return [(name, np.asarray(value)) for name, value in made.items()]
    return [("", np.asarray(value)) for value in (made if isinstance(made, (list, tuple)) else [made])]


def run_tflite(path: str, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)
    made = interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))(**inputs)
    return [made[name] for name in outputs]


def run_onnx(path: str, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    import onnxruntime

    return onnxruntime.InferenceSession(path).run(outputs, inputs)


def run_torchscript(path: str, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    import torch

    with torch.no_grad():
        made = torch.jit.load(path)(*(torch.from_numpy(value.copy()) for value in inputs.values()))
    leaves = torch.utils._pytree.tree_leaves(made)
    return [leaf.numpy() for leaf in leaves][: len(outputs)]


def run_savedmodel(path: str, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    import tensorflow as tf

    # Below the name are the versions, as TensorFlow Serving looks for them.
    folder = next(Path(path).rglob("saved_model.pb")).parent
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    made = serve(**{name: tf.constant(value) for name, value in inputs.items()})
    return [made[name].numpy() for name in outputs]


RUN = {"tflite": run_tflite, "onnx": run_onnx, "torchscript": run_torchscript, "savedmodel": run_savedmodel}


def check(path: str, form: str, fresh: str, reported: dict[str, Any]) -> dict[str, Any]:
    """Run an artifact on the fresh inputs and compare; `reported` has the source's and the artifact's signature."""
    kept = np.load(fresh)
    source, artifact = reported["source"], reported["artifact"]
    worst, unequal = float("inf"), []
    signal: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for case in range(CASES):
        given = {key.split("|")[2]: kept[key] for key in kept.files if key.startswith(f"{case}|in|")}
        asked_for = {key.split("|", 3)[3] or int(key.split("|")[2]): kept[key] for key in kept.files
                     if key.startswith(f"{case}|out|")}  # fmt: skip
        order = [spec["name"] for spec in source["inputs"]]
        values = [given[name] for name in order] if set(order) == set(given) else list(given.values())
        inputs = {
            spec["name"]: placed(value, spec, case) for spec, value in zip(artifact["inputs"], values, strict=True)
        }
        names = [spec["name"] for spec in source["outputs"]]
        expected = [asked_for[name] for name in names] if set(names) == set(asked_for) else list(asked_for.values())
        actual = RUN[form](path, inputs, [spec["name"] for spec in artifact["outputs"]])
        if len(actual) != len(expected):
            return {"agreed": False, "why": f"{len(actual)} outputs instead of {len(expected)}"}
        for name, wanted, got in zip(names, expected, actual, strict=True):
            if tuple(wanted.shape) != tuple(got.shape):
                return {"agreed": False, "why": f"{name}: shape {got.shape} instead of {wanted.shape}"}
            signal.setdefault(name, []).append((np.asarray(wanted), np.asarray(got)))
    for name, pairs in signal.items():
        wanted, got = (np.concatenate([side.ravel() for side in sides]) for sides in zip(*pairs, strict=True))
        if wanted.dtype.kind in "iub":
            equal = float(np.mean(wanted.astype("int64") == got.astype("int64")))
            if equal < ENOUGH_EQUAL:
                unequal.append(f"{name}: {equal:.0%} of the integers are equal")
            continue
        worst = min(worst, sqnr_db(wanted.astype("float64"), got.astype("float64")))
    said = [*unequal, *([f"{worst:.0f} dB"] if worst < ENOUGH_DB else [])]
    return {"agreed": not said, "sqnr_db": None if worst == float("inf") else worst, "why": "; ".join(said)}


def placed(value: np.ndarray, spec: dict[str, Any], case: int) -> np.ndarray:
    """Cast an input as the artifact takes it: narrower integers, and a layout of its own where it states one."""
    wanted = [size for size in spec["shape"] if isinstance(size, int)]
    if value.ndim == 4 and spec.get("layout") and any(
        isinstance(size, int) and size != real for size, real in zip(spec["shape"], value.shape, strict=True)
    ):  # fmt: skip
        value = value.transpose((0, 2, 3, 1) if spec["layout"] == "nhwc" else (0, 3, 1, 2))
    if len(wanted) > value.ndim:
        raise ValueError(f"case {case}: {spec['name']} has {value.ndim} axes, the artifact's has {len(spec['shape'])}")
    return np.ascontiguousarray(value.astype(spec["dtype"]))


def sqnr_db(wanted: np.ndarray, got: np.ndarray) -> float:
    """Signal about its mean over the noise, in dB; infinite where nothing differs."""
    noise = float(np.mean((wanted - got) ** 2))
    if noise == 0.0:
        return float("inf")
    if not np.isfinite(noise):
        return float("-inf")
    return 10 * float(np.log10(max(float(np.var(wanted)), 1e-300) / noise))


if __name__ == "__main__":
    reported_file = json.loads(Path(sys.argv[4]).read_text())
    print("\n" + json.dumps(check(sys.argv[1], sys.argv[2], sys.argv[3], reported_file)))
