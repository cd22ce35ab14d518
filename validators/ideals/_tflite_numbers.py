"""What the numbers of quantized TFLite tensors stand for, and how a float tensor is rounded as one of them is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.formats._tflite_precision import is_quantized
from validators.ideals._choices import chosen

if TYPE_CHECKING:
    import numpy as np

#: NumPy's names of the types (schema.fbs, enum TensorType) that numbers are quantized to; int4 is packed in pairs.
INTEGERS = {"UINT8": "uint8", "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64", "INT4": "int4"}


@dataclass(frozen=True, slots=True)
class Stored:
    """How a tensor's numbers are stored: halves, or integers with scales along one axis or for the whole."""

    dtype: str
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0

    def rounded(self, values: np.ndarray, held: np.ndarray | None = None) -> np.ndarray:
        """Round floats as storing them would, or did where `held` are integers they may have become; float32.

        NOTE: Why nothing is clipped: quantizers choose the scales of weights so that all of them fit, and a scale that
        is too small must show as the artifact's fault, which its ideal would share if it were clipped as well.
        """
        import numpy as np

        if self.dtype == "float16":
            return np.asarray(values, np.float16).astype(np.float32)
        scales, zeros = self._along(values.ndim)
        levels = values / scales + zeros
        if held is None or self.dtype in ("int32", "int64"):  # biases, where a step is too little to tell from none
            integers = np.rint(levels)
        else:
            integers = chosen(levels, held, zeros, self.axis if len(self.scales) > 1 else None)
        return np.asarray((integers - zeros) * scales, np.float32)

    def meant(self, numbers: np.ndarray) -> np.ndarray:
        """Give what stored numbers stand for; float32."""
        import numpy as np

        if self.dtype == "float16":
            return np.asarray(numbers, np.float32)
        scales, zeros = self._along(numbers.ndim)
        return np.asarray((numbers - zeros) * scales, np.float32)

    def _along(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        shape = [1] * rank
        if len(self.scales) > 1:
            shape[self.axis] = len(self.scales)
        return tuple(  # type: ignore[return-value]
            np.array(side, np.float64).reshape(shape if rank else ()) for side in (self.scales, self.zero_points)
        )


def stored(tensor: Any) -> Stored | None:
    """Say how a tensor's numbers are stored; None for plain numbers.

    Raises LoadError for scales in blocks, which no quantizer here makes.
    """
    from ai_edge_litert.schema_py_generated import TensorType

    if tensor.type == TensorType.FLOAT16:
        return Stored("float16")
    if not is_quantized(tensor):
        return None
    types = {getattr(TensorType, name): dtype for name, dtype in INTEGERS.items()}
    details = tensor.quantization
    if details.details is not None or tensor.type not in types:
        raise LoadError(f"the tensor {tensor.name.decode()} is quantized in a way this version does not simulate")
    scales = tuple(float(scale) for scale in details.scale)
    given = details.zeroPoint
    zeros = tuple(int(zero) for zero in given) if given is not None and len(given) else (0,)
    return Stored(types[tensor.type], scales, zeros * (len(scales) // len(zeros)), int(details.quantizedDimension))


def numbers(model: Any, tensor: Any, how: Stored) -> np.ndarray:
    """Read the stored numbers of a constant."""
    import numpy as np

    data = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.uint8)
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    if how.dtype != "int4":
        return data.view(how.dtype).reshape(shape)
    # Two in a byte, the first in its lower half (tflite/kernels/internal/portable_tensor_utils.cc).
    halves = np.stack((data & 15, data >> 4), axis=1).reshape(-1)[: int(np.prod(shape))].astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).reshape(shape)


def is_constant(model: Any, tensor: Any) -> bool:
    """Whether a tensor's contents are in the file."""
    return model.buffers[tensor.buffer].data is not None


def write_floats(model: Any, tensor: Any, values: np.ndarray) -> None:
    """Make a tensor a float32 constant, in a buffer of its own."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1
    tensor.type = schema.TensorType.FLOAT32
    tensor.quantization = None
