"""TFLite to ONNX through tf2onnx."""

from __future__ import annotations

import subprocess
import sys

from convert.errors import RouteError
from convert.formats import Draft
from convert.formats.onnx import read_model, write_model
from convert.rewrites import rescue
from convert.routes import ROUTES, Route, Work
from convert.sources import TFLITE
from convert.worker import summary

OPSET = 18  # the highest tf2onnx 1.17 supports


def convert(work: Work) -> Draft:
    """Run tf2onnx's command, which needs TensorFlow.

    NOTE: Why a process of its own: LiteRT, which this worker has loaded the file with, and TensorFlow share a mutex
    that can deadlock where both are in one process.
    """
    words = [sys.executable, "-m", "tf2onnx.convert", "--tflite", str(work.path), "--output", str(work.out)]
    ran = subprocess.run([*words, "--opset", str(OPSET)], capture_output=True, text=True, check=False)
    if ran.returncode != 0 or not work.out.is_file():
        if "No module named" in ran.stderr:
            raise ModuleNotFoundError(ran.stderr.strip().splitlines()[-1], name=_missing(ran.stderr))
        lines = "\n".join(ran.stderr.strip().splitlines()[-3:])
        raise RouteError(f"tf2onnx failed: {summary(RuntimeError(lines))}")
    model = read_model(work.out)
    rescues = rescue(model)
    write_model(work.out, model)
    sides = ((work.model.inputs, work.signature.inputs), (work.model.outputs, work.signature.outputs))
    inputs, outputs = (tuple(str(details[spec.name]["name"]) for spec in specs) for details, specs in sides)
    return Draft(str(work.out), work.signature, inputs, outputs, rescues=rescues)


def _missing(said: str) -> str:
    return said.rsplit("No module named", 1)[1].strip().strip("'\"").split(".")[0]


ROUTES.register(
    Route(
        name="tflite-tf2onnx",
        title="tf2onnx from TFLite",
        takes=("tflite",),
        gives="onnx",
        rank=10,
        why="the only exporter of TFLite files to ONNX",
        environment=TFLITE.environment,
        convert=convert,
        first=True,
    )
)
