"""Warm-up requests that TensorFlow Serving replays when it loads a model, so that the first caller does not wait."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convert.spec import Signature

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np

FILE = "tf_serving_warmup_requests"  # in assets.extra; the name TensorFlow Serving looks for

#: Field numbers of TensorFlow Serving's messages (tensorflow_serving/apis: prediction_log, predict and model.proto),
#: whose Python package would bring a second TensorFlow; all of these fields are length-delimited.
PREDICTION_LOG_PREDICT = 6
PREDICT_LOG_REQUEST = 1
REQUEST_MODEL, REQUEST_INPUTS = 1, 2
MODEL_NAME, MODEL_SIGNATURE = 1, 3
MAP_KEY, MAP_VALUE = 1, 2


def write(path: Path, model: str, signature_name: str, signature: Signature) -> None:
    """Write one request for every set of sizes that every source must run, of the inputs that parity tries."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as out:
        for arrays in examples(signature):
            out.write(request(model, signature_name, arrays))


def examples(signature: Signature) -> Iterator[Mapping[str, np.ndarray]]:
    """Give the first of the generated cases at each of their sizes."""
    from validators.inputs import generate, optional_cases

    seen = set()
    optional = optional_cases(signature)
    for case in generate(signature, seed=0):
        if case.sizes not in seen and case.name not in optional:
            seen.add(case.sizes)
            yield case.arrays


def request(model: str, signature_name: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Encode a PredictionLog of one PredictRequest."""
    import tensorflow as tf

    spec = _field(MODEL_NAME, model.encode()) + _field(MODEL_SIGNATURE, signature_name.encode())
    body = _field(REQUEST_MODEL, spec)
    for name, array in arrays.items():
        tensor = tf.make_tensor_proto(array, shape=array.shape).SerializeToString()
        body += _field(REQUEST_INPUTS, _field(MAP_KEY, name.encode()) + _field(MAP_VALUE, tensor))
    return _field(PREDICTION_LOG_PREDICT, _field(PREDICT_LOG_REQUEST, body))


def _field(number: int, payload: bytes) -> bytes:
    """Encode a length-delimited protobuf field (wire type 2)."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
