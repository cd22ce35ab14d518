"""PyTorch to TFLite through litert-torch, the batch fixed to one."""

from __future__ import annotations

from dataclasses import replace

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._litert_torch import LITERT_TORCH, POOR_AT, convert_free
from convert.spec import BATCH, Signature


def applies(signature: Signature) -> bool:
    """Apply to models whose batch is free: fixing it is something to try, and it is not done yet."""
    return BATCH in signature.free


def convert(work: Work) -> Draft:
    """Convert at batch 1, as the file of most phones is used; other free dimensions stay free."""
    draft = convert_free(work, work.promised.fixed({BATCH: 1}))
    return replace(draft, notes=(*draft.notes, f"{BATCH} is fixed to 1"))


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
        applies=applies,
        fixes=True,
        poor_at=POOR_AT,
    )
)
