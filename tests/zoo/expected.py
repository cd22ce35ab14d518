"""What the zoo cannot do yet: every cell that does not pass, and every free dimension that is lost, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cells import Cell


@dataclass(frozen=True, slots=True)
class Failure:
    """A known failure: words that the attempts' reasons must hold, and why it is so."""

    says: str
    reason: str


LOOP = Failure("TS2EPConverter failed for node prim::Loop", "PyTorch turns no such loop into a graph")
#: By model and format. A cell that passes although it is here fails its test: take it out.
FAILURES = {
    ("keras/hand_gru_free_length", "torchscript"): Failure(
        "times what its source does", "a trace unrolls the recurrence at the example's length"
    ),
    ("torch/hand_branching", "tflite"): LOOP,
    ("torch/hand_branching", "savedmodel"): LOOP,
    ("torch/hand_style", "savedmodel"): LOOP,  # PyTorch's own checks in instance normalisation and padding
}

#: Free dimensions that a proven artifact has fixed. A cell that keeps them although it is here fails its test.
FIXED = {
    # Recurrent layers need tensor lists, which only Flex has, when the batch is free (tensorflow#58668).
    ("keras/hand_lstm", "tflite"): ("batch",),
    ("keras/hand_gru_free_length", "tflite"): ("batch",),
    ("keras/hand_bidirectional", "tflite"): ("batch",),
    ("keras/hand_bigru", "tflite"): ("batch",),
    ("keras/hand_masked", "tflite"): ("batch",),
    ("keras/hand_frames", "tflite"): ("batch",),
    ("keras/hand_convlstm", "tflite"): ("batch",),
    ("keras2/recurrent", "tflite"): ("batch",),
    ("savedmodel/hand_lstm", "tflite"): ("batch",),
    ("onnx/hand_bigru", "tflite"): ("batch",),
}


def surprise(cell: Cell) -> str:
    """Say how a cell came out otherwise than the tables say; empty where it did not."""
    key = (cell.model, cell.form)
    expected = FAILURES.get(key)
    if cell.wrong:
        return f"called right, but an independent check disagrees: {cell.checked['why']}"
    if expected is not None:
        if cell.proven:
            return f"passes now; take it out of FAILURES: {expected.reason}"
        told = f"{cell.told}\n{cell.reason}"
        return "" if expected.says in told else f"fails for another reason than the known one:\n{told}"
    if not cell.proven:
        return f"{cell.status}: {cell.told or cell.reason}"
    if tuple(cell.lost) != FIXED.get(key, ()):  # a kept result has a list
        return f"has fixed {cell.lost}; update FIXED"
    return ""
