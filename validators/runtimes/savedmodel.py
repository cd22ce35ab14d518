"""SavedModel artifacts, loaded from disk and called by their served signature, as TensorFlow Serving does."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import LoadError
from convert.formats import savedmodel
from convert.sources import TENSORFLOW
from convert.sources._probe import probe
from convert.sources._saved_model import load_served, place_of
from validators.runtimes import RUNTIMES, Arrays, Inference, Runtime, Session, Subject

if TYPE_CHECKING:
    import numpy as np

#: NOTE: Why not the reference's process: an artifact must load where nothing of its source is.
SAVEDMODEL = dataclasses.replace(TENSORFLOW.environment, name="savedmodel")


class SavedModelSession(Session):
    """The served signature of a SavedModel, its outputs in the order that the file beside it says."""

    def __init__(self, subject: Subject) -> None:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(subject.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        path = Path(subject.file.path)
        place = place_of(probe(path).members)
        if place is None:
            raise LoadError(f"{path} holds no SavedModel", fix="copy or convert it again")
        self._served = load_served(path / place, subject.file, subject.options)
        self._names = [spec.name for spec in savedmodel.read(path).signature.outputs]

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Call the signature by names."""
        found = self._served.run(inputs)
        return {name: found[name] for name in self._names}

    def ready(self, inputs: Arrays) -> Inference:
        """Make the tensors, and call the signature on them; TensorFlow returns when it has computed."""
        return Inference(functools.partial(self._served.function, **self._served.tensors(inputs)))


RUNTIMES.register(
    Runtime("savedmodel", "TensorFlow SavedModel", SAVEDMODEL, SavedModelSession, formats=("savedmodel",))
)
