"""PyTorch to ONNX through torch.onnx's dynamo exporter."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.sources._measure import example, trial_sizes
from convert.sources._torch import graph_of_torchscript, positional
from convert.worker import Environment

#: NOTE: Why a process of its own: a second export in one process loses the free dimensions and still reports success.
TORCH_ONNX = Environment("torch-onnx", ("torch", "torch.onnx", "onnxscript", "onnx"))


def convert(work: Work) -> Draft:
    """Export with every free dimension of the signature dynamic."""
    import torch

    signature = work.signature
    module = work.model
    if isinstance(module, torch.jit.ScriptModule):
        module = graph_of_torchscript(module, signature.inputs)
    sizes = trial_sizes(signature)
    dims = {name: torch.export.Dim(name) for name in signature.free}
    # NOTE: Why not the promised names: torch.onnx names inner values after operators, `softmax` say, and does not see
    # that an output is called so too; the file would not load.
    inputs = tuple(f"edgeproof_input_{position}" for position in range(len(signature.inputs)))
    outputs = tuple(f"edgeproof_output_{position}" for position in range(len(signature.outputs)))
    with torch.no_grad():
        program = torch.onnx.export(
            positional(module, signature),
            tuple(torch.from_numpy(example(spec, sizes)) for spec in signature.inputs),
            dynamo=True,
            verbose=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple(
                {axis: dims[dim] for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
                for spec in signature.inputs
            ),
        )
    program.save(str(work.out))
    return Draft(str(work.out), signature, inputs, outputs)


ROUTES.register(
    Route(
        name="torch-onnx",
        title="torch.onnx (dynamo)",
        takes=("torch",),
        gives="onnx",
        rank=10,
        why="PyTorch's own exporter; 98 % of a 47-model zoo at the first try, free dimensions kept",
        environment=TORCH_ONNX,
        convert=convert,
    )
)
