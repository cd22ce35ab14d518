"""SavedModel and TF Hub sources: every node of the signature's graph."""

from __future__ import annotations

from convert.errors import LoadError
from convert.sources import TENSORFLOW, load
from convert.worker import summary
from validators.runtimes import Subject
from validators.taps import TAPS, Tap
from validators.taps._graph import GraphProbe


def open_saved_model(subject: Subject) -> GraphProbe:
    """Load the signature and freeze its graph, in float64 where asked; raises LoadError where that cannot be done."""
    loaded = load(subject.file, subject.options)
    try:
        return GraphProbe(loaded.model, loaded.facts.signature, subject.dtype)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"the model's graph cannot be frozen: {type(error).__name__}: {summary(error, 2)}") from error


TAPS.register(Tap("saved_model", TENSORFLOW.environment, open_saved_model, families=("tensorflow",)))
