"""PyTorch to TFLite through litert-torch, the batch fixed to one."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work, has_free_batch
from convert.routes._litert_torch import LITERT_TORCH, POOR_AT, convert_at, draft
from convert.spec import BATCH


def convert(work: Work) -> Draft:
    """Convert at batch 1, as the file of most phones is used."""
    signature, notes = convert_at(work, 1)
    return draft(work, signature.fixed({BATCH: 1}), (*notes, f"{BATCH} is fixed to 1"))


ROUTES.register(
    Route(
        name="litert-torch-batch1",
        title="litert-torch at batch 1",
        takes=("torch",),
        gives="tflite",
        rank=20,
        why="for graphs that hold the batch size where it cannot be freed",
        environment=LITERT_TORCH,
        convert=convert,
        applies=has_free_batch,
        fixes=True,
        poor_at=POOR_AT,
    )
)
