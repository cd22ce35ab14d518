"""Routes from TorchScript that go wrong on purpose, one way each; every one is tried before any real route.

They register themselves where they are imported as plug-ins, in a worker; the tests register those they want.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import numpy as np

from convert.errors import RouteError
from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.worker import Environment

#: A process of their own, so that none of them can take a real stage with it.
BROKEN = Environment("broken-routes", ("torch", "onnx"))


def draft(work: Work) -> Draft:
    """Describe a file that has the promised names already."""
    sides = (tuple(spec.name for spec in side) for side in (work.signature.inputs, work.signature.outputs))
    return Draft(str(work.out), work.signature, *sides)


def refuse(work: Work) -> Draft:
    """Refuse, as a route does that knows what it cannot convert."""
    raise RouteError("refused on purpose", fix="ask another one")


def fail(work: Work) -> Draft:
    """Raise what no route is meant to."""
    raise ZeroDivisionError("raised on purpose")


def crash(work: Work) -> Draft:
    """Die as a converter's C++ does."""
    print("last words", file=sys.stderr, flush=True)
    os.abort()


def write_nothing(work: Work) -> Draft:
    """Report success without a file."""
    return draft(work)


def write_corrupt(work: Work) -> Draft:
    """Leave half a file."""
    work.out.write_bytes(b"\x08\x09\x12\x07pytorch" + bytes(range(256)))
    return draft(work)


def write_unloadable(work: Work) -> Draft:
    """Leave a file that keeps the contract and holds an operator no engine has."""
    write_graph(work, "nobody")
    return draft(work)


def write_wrong(work: Work) -> Draft:
    """Leave a file that keeps the contract and answers with a projection of its input on random numbers."""
    write_graph(work, "")
    return draft(work)


def write_graph(work: Work, domain: str) -> None:
    """Write a flattening and a matrix product between the promised input and output."""
    import onnx
    from onnx import helper, numpy_helper

    (source,), (answer,) = work.signature.inputs, work.signature.outputs
    width = int(np.prod([size for size in source.shape if isinstance(size, int)]))
    weights = np.random.default_rng(0).standard_normal((width, answer.shape[1])).astype("float32")
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", [source.name], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], [answer.name], domain=domain),
        ],
        "wrong",
        [helper.make_tensor_value_info(source.name, onnx.TensorProto.FLOAT, source.shape)],
        [helper.make_tensor_value_info(answer.name, onnx.TensorProto.FLOAT, answer.shape)],
        [numpy_helper.from_array(weights, "weights")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nobody", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), work.out)


def hang(work: Work) -> Draft:
    """Wait for something that never comes."""
    time.sleep(600)
    return draft(work)


def grow(work: Work) -> Draft:
    """Take memory, a little at a time, up to what a test machine surely has."""
    held = []
    for _ in range(48):
        held.append(np.ones(64 << 20, np.uint8))
        time.sleep(0.05)
    return draft(work)


def route(gives: str, rank: int, convert: Callable[[Work], Draft]) -> Route:
    """Describe one of them; ranks of real routes start at 10."""
    name = f"broken-{convert.__name__.replace('_', '-')}"
    return Route(name, name, ("torchscript",), gives, rank, "it is broken", BROKEN, convert)


ALL = {
    broken.name: broken
    for broken in (
        route("onnx", 1, refuse),
        route("onnx", 2, fail),
        route("onnx", 3, write_nothing),
        route("onnx", 4, write_corrupt),
        route("onnx", 5, write_unloadable),
        route("onnx", 6, write_wrong),
        route("onnx", 7, crash),
        route("torchscript", 1, grow),
        route("torchscript", 2, hang),
    )
}

if "pytest" not in sys.modules:
    for broken in ALL.values():
        ROUTES.register(broken)
