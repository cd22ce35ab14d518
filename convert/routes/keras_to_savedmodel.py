"""Keras models and SavedModels to SavedModels in the layout TensorFlow Serving loads."""

from __future__ import annotations

from convert.formats import Draft
from convert.formats.savedmodel import VERSION
from convert.routes import ROUTES, Route, Work
from convert.sources import TENSORFLOW_CONVERTER
from convert.sources._tensorflow import input_names, output_names, save


def convert(work: Work) -> Draft:
    """Save the model with a signature of positions, which sealing gives its names."""
    signature = work.signature
    save(work, signature, work.out / VERSION)
    return Draft(str(work.out), signature, input_names(signature), output_names(signature))


ROUTES.register(
    Route(
        name="keras-export",
        title="TensorFlow's own export",
        takes=("keras", "tensorflow"),
        gives="savedmodel",
        rank=10,
        why="the model itself, with its variables; nothing is converted",
        environment=TENSORFLOW_CONVERTER,
        convert=convert,
    )
)
