"""PyTorch to TFLite through litert-torch, with all dimensions free that the model leaves free."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._litert_torch import LITERT_TORCH, POOR_AT, convert_free


def convert(work: Work) -> Draft:
    """Convert at recognisable sizes and free them afterwards, or as it is where all are fixed."""
    return convert_free(work, work.promised)


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
