"""ONNX to TFLite through onnx2tf, the batch fixed to one."""

from __future__ import annotations

from dataclasses import replace

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._onnx2tf import ONNX2TF, TOOLCHAIN, convert_keeping
from convert.spec import BATCH, Signature


def has_batch(signature: Signature) -> bool:
    """Apply to models whose batch is free."""
    return BATCH in signature.free


def convert(work: Work) -> Draft:
    """Convert at batch 1, as the file of most phones is used; other free dimensions stay free."""
    draft = convert_keeping(work, work.promised.fixed({BATCH: 1}))
    return replace(draft, notes=(*draft.notes, f"{BATCH} is fixed to 1"))


ROUTES.register(
    Route(
        name="onnx2tf-batch1",
        title="onnx2tf at batch 1",
        takes=("onnx",),
        gives="tflite",
        rank=20,
        why="for graphs that onnx2tf fixes to the size it guessed where the batch is free",
        environment=ONNX2TF,
        convert=convert,
        applies=has_batch,
        fixes=True,
        toolchain=TOOLCHAIN,
        reads_file=True,
    )
)
