"""Keras to TFLite through TensorFlow's own converter, the batch fixed to one."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work, has_free_batch
from convert.sources import TENSORFLOW_CONVERTER
from convert.sources._tensorflow import at_batch_one, to_tflite
from convert.spec import BATCH


def convert(work: Work) -> Draft:
    """Convert at batch 1: recurrent layers need tensor lists, which only Flex has, when the batch is free."""
    signature = at_batch_one(work.promised)
    to_tflite(work, signature)
    notes = (f"{BATCH} is fixed to 1",)
    return Draft(str(work.out), signature, (), (), notes)


ROUTES.register(
    Route(
        name="tflite-converter-batch1",
        title="TFLiteConverter at batch 1",
        takes=("keras", "tensorflow"),
        gives="tflite",
        rank=20,
        why="recurrent networks convert to built-in operators only at a fixed batch (tensorflow#58668)",
        environment=TENSORFLOW_CONVERTER,
        convert=convert,
        applies=has_free_batch,
        fixes=True,
    )
)
