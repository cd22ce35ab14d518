"""Names of tensors in litert-torch's files, shortened to the paths of the modules that compute them."""

from __future__ import annotations

import re
from pathlib import Path

from convert.formats.tflite import distinct_names, read_model, write_model

#: One module on the way, as litert-torch writes it: its class with its package, then its attribute; the outermost,
#: which is a wrapper, has none.
PIECE = re.compile(r"(?:[\w<>]+\.)+[A-Z][A-Za-z0-9]*(?:_(?P<attribute>\w+))?")

#: What computes a tensor where that is no module within the model.
WHOLE = "model"


def module_path(name: str) -> str:
    """Shorten a tensor's name.

    >>> module_path("my.Net_model/torch.nn.modules.linear.Linear_dense;1")
    'model/dense;1'
    """
    return ";".join(_shortened(scope) for scope in name.split(";"))


def _shortened(scope: str) -> str:
    pieces = scope.split("/")
    found = [PIECE.fullmatch(piece) for piece in pieces]
    if not all(found):
        return scope
    return "/".join(match["attribute"] for match in found if match and match["attribute"]) or WHOLE


def shorten_names(path: Path) -> None:
    """Shorten the names in a file in place.

    NOTE: Why: they are made of the packages and classes of all modules on the way, 450 bytes each in a BERT; of a small
    network's file they were half, which int8 cannot make smaller.
    """
    model = read_model(path)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.name = module_path((tensor.name or b"").decode()).encode()
    write_model(path, distinct_names(model))
