"""TensorFlow as the reference of SavedModels, in the source's precision or in float64."""

from __future__ import annotations

from convert.sources import TENSORFLOW, load
from validators.runtimes import RUNTIMES, Loaded, Runtime, Session, Subject
from validators.runtimes._float64_graph import open_wide


def open_saved_model(subject: Subject) -> Session:
    """Load the signature, which runs on named arrays, and make it compute in float64 where asked."""
    loaded = load(subject.file, subject.options)
    native = Loaded(loaded.model)
    return open_wide(native, loaded.model, loaded.facts.signature) if subject.dtype else native


RUNTIMES.register(
    Runtime("saved_model", "TensorFlow", TENSORFLOW.environment, open_saved_model, families=("tensorflow",))
)
