"""Every operator of a quantized TFLite file by itself: what its ideal makes of what the file itself computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.worker import summary
from validators.ideals._tflite_numbers import Stored, stored
from validators.taps import Stepped, Stepping

if TYPE_CHECKING:
    import numpy as np

    from validators.ideals._tflite_steps import Cut


def step(job: Stepping) -> Stepped:
    """Cut the ideal at every tensor, and run it on the tensors of the tapped file."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from convert.formats.tflite import read_model, write_model
    from validators.ideals._tflite_steps import cut
    from validators.ideals.tflite import rounded
    from validators.taps.litert import described

    _, places, _ = described(read_model(Path(job.building.reduced)))
    tensors = read_model(Path(job.building.reduced)).subgraphs[0].tensors
    model, twins, notes = rounded(job.building)
    cuts = cut(model, twins)
    path = Path(job.building.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_model(path, model)
    # NOTE: Why without delegates: as the ideal is, and XNNPACK would take what is cut for one graph.
    interpreter = Interpreter(
        model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    known = [item for item in cuts if item.given >= 0 and item.twin in places]
    kept: dict[str, np.ndarray] = {}
    with np.load(job.tapped) as arrays:
        for case in job.cases:
            try:
                answers = _answers(interpreter, cuts, {t: arrays.get(f"{case}/{at}") for t, at in places.items()})
            except (ValueError, RuntimeError) as error:
                raise LoadError(f"the ideal does not run operator by operator: {summary(error, 2)}") from error
            for item in known:
                how = stored(tensors[item.twin])
                kept[f"{case}/{places[item.twin]}"] = clipped(answers[item.given], how)
    np.savez(job.out, **kept)  # type: ignore[arg-type]
    widths = {places[item.twin]: stored(tensors[item.twin]) for item in known}
    return Stepped(
        job.out,
        tuple(sorted(widths)),
        tuple(how.scales[0] if how is not None and how.scales else 0.0 for _, how in sorted(widths.items())),
        notes,
    )


def _answers(interpreter: Any, cuts: list[Cut], given: dict[int, np.ndarray | None]) -> list[np.ndarray]:
    import numpy as np

    inputs, fed = interpreter.get_input_details(), {}
    for item in cuts:
        array = given.get(item.twin)
        if array is None:
            raise LoadError("a tensor of the quantized file could not be read")
        fed[item.taken] = array.astype(inputs[item.taken]["dtype"], copy=False)
    for place, array in fed.items():
        interpreter.resize_tensor_input(inputs[place]["index"], array.shape, strict=False)
    interpreter.allocate_tensors()
    for place, array in fed.items():
        interpreter.set_tensor(inputs[place]["index"], array)
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(detail["index"])) for detail in interpreter.get_output_details()]


def clipped(answer: np.ndarray, how: Stored | None) -> np.ndarray:
    """Round an answer as the file stores it, within the range it has for it."""
    import numpy as np

    if how is None or how.dtype == "float16":
        return answer if how is None else how.rounded(answer)
    ends = np.iinfo(how.dtype)
    integers = np.clip(np.rint(answer.astype(np.float64) / how.scales[0]) + how.zero_points[0], ends.min, ends.max)
    return np.asarray((integers - how.zero_points[0]) * how.scales[0], np.float32)
