"""PyTorch to SavedModels: the exported graph, operator by operator, in TensorFlow's own."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.torch_tensorflow import to_tensorflow
from convert.worker import Environment

#: What exports the graph; TensorFlow writes it in a program of its own.
TORCH = Environment("torch-tensorflow", ("torch",))


def convert(work: Work) -> Draft:
    """Convert with every free dimension left free."""
    return to_tensorflow(work.model, work.signature, work.out)


ROUTES.register(
    Route(
        name="torch-tensorflow",
        title="PyTorch's graph in TensorFlow's operators",
        takes=("torch",),
        gives="savedmodel",
        rank=5,
        why="TensorFlow's own kernels, a whole batch at once, every dimension free",
        environment=TORCH,
        convert=convert,
    )
)
