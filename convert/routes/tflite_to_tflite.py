"""TFLite to TFLite: a copy with the contract written into it."""

from __future__ import annotations

import shutil

from convert.errors import RouteError
from convert.formats import Draft
from convert.formats.tflite import read
from convert.routes import ROUTES, Route, Work
from convert.sources import TFLITE
from convert.sources._tflite import DEFAULT
from convert.spec import FP32


def convert(work: Work) -> Draft:
    """Copy the file; what cannot be done to a finished file is refused."""
    if work.permutations:
        raise RouteError(
            "the layout of a finished TFLite file cannot be changed",
            fix="leave --layout out, or convert the model it was made from",
        )
    if work.options.signature not in ("", DEFAULT):
        raise RouteError(
            f"only the default signature of a TFLite file can be copied, not {work.options.signature}",
            fix="leave --signature out",
        )
    precision = read(work.path).precision
    if precision != FP32:
        raise RouteError(
            f"the file is of precision {precision} already: a copy of it is no fp32 artifact, and no base for another",
            fix="give the float file it was made from; `python -m validators` compares the two",
        )
    shutil.copyfile(work.path, work.out)
    names = tuple(work.model.inputs), tuple(work.model.outputs)
    return Draft(str(work.out), work.signature, *names)


ROUTES.register(
    Route(
        name="tflite-copy",
        title="copy of the TFLite file",
        takes=("tflite",),
        gives="tflite",
        rank=5,
        why="the file itself is the best there is of it",
        environment=TFLITE.environment,
        convert=convert,
        first=True,
    )
)
