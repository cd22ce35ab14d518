"""Keras models and SavedModels to TFLite with TensorFlow's own operators where there are no built-in ones."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.sources import TENSORFLOW_CONVERTER
from convert.sources._tensorflow import to_tflite
from convert.spec import FLEX


def convert(work: Work) -> Draft:
    """Convert with the signature as it is."""
    signature = work.promised
    to_tflite(work, signature, flex=True)
    return Draft(str(work.out), signature, (), ())


ROUTES.register(
    Route(
        name="tflite-converter-flex",
        title="TFLiteConverter with Select-TF",
        takes=("keras", "tensorflow"),
        gives="tflite",
        rank=90,
        why="the app must link TensorFlow's kernels, and no wheel since 2.20 can prove the file (LiteRT#6458)",
        environment=TENSORFLOW_CONVERTER,
        convert=convert,
        needs=FLEX,
    )
)
