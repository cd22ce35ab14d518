"""Keras to TFLite through TensorFlow's own converter, free dimensions left free."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.sources import TENSORFLOW_CONVERTER
from convert.sources._tensorflow import to_tflite


def convert(work: Work) -> Draft:
    """Convert with the signature as it is."""
    signature = work.promised
    to_tflite(work, signature)
    return Draft(str(work.out), signature, (), ())


ROUTES.register(
    Route(
        name="tflite-converter",
        title="TFLiteConverter",
        takes=("keras", "tensorflow"),
        gives="tflite",
        rank=10,
        why="TensorFlow's own converter; the fastest files of the Keras zoo",
        environment=TENSORFLOW_CONVERTER,
        convert=convert,
    )
)
