"""PyTorch to TFLite through litert-torch, the batch left free."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._free_batch import free_batch, recognisable_batch
from convert.routes._litert_torch import LITERT_TORCH, POOR_AT, convert_at, draft
from convert.spec import BATCH


def convert(work: Work) -> Draft:
    """Convert at a recognisable batch size and free it afterwards, or as it is where the batch is fixed."""
    if BATCH not in work.signature.free:
        return draft(work, *convert_at(work, 1))
    batch = recognisable_batch(work.signature)
    signature, notes = convert_at(work, batch)
    free_batch(work.out, batch)
    return draft(work, signature, notes)


ROUTES.register(
    Route(
        name="litert-torch",
        title="litert-torch",
        takes=("torch",),
        gives="tflite",
        rank=10,
        why="PyTorch's own road to LiteRT; 94 % of a 47-model zoo at the first try",
        environment=LITERT_TORCH,
        convert=convert,
        poor_at=POOR_AT,
    )
)
