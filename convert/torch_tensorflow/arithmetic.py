"""Arithmetic, comparison and logic of single elements."""

from __future__ import annotations

import operator as python
from typing import Any

import tensorflow as tf

from convert.torch_tensorflow.table import OPERATORS, Call, Compute, Operator, cast, operator

#: Functions of one number that give what PyTorch's of the same name give.
ALIKE: dict[str, Compute] = {
    "abs": tf.abs,
    "neg": tf.negative,
    "exp": tf.exp,
    "expm1": tf.math.expm1,
    "log": tf.math.log,
    "log1p": tf.math.log1p,
    "sqrt": tf.sqrt,
    "rsqrt": lambda x: 1.0 / tf.sqrt(x),  # as PyTorch computes it
    "reciprocal": tf.math.reciprocal,
    "sin": tf.sin,
    "cos": tf.cos,
    "tan": tf.tan,
    "asin": tf.asin,
    "acos": tf.acos,
    "atan": tf.atan,
    "sinh": tf.sinh,
    "cosh": tf.cosh,
    "tanh": tf.tanh,
    "asinh": tf.asinh,
    "acosh": tf.acosh,
    "atanh": tf.atanh,
    "erf": tf.math.erf,
    "erfc": tf.math.erfc,
    "lgamma": tf.math.lgamma,
    "digamma": tf.math.digamma,
    "sign": tf.sign,
    "square": tf.square,
    "conj": tf.math.conj,
    "angle": tf.math.angle,
}

#: Functions of one number that leave integers alone.
ROUNDING: dict[str, Compute] = {
    "floor": tf.floor,
    "ceil": tf.math.ceil,
    "round": tf.round,
    "trunc": lambda x: tf.where(x < 0, tf.math.ceil(x), tf.floor(x)),
}

#: Questions about one number.
ASKED: dict[str, Compute] = {
    "isnan": lambda x: tf.math.is_nan(x) if x.dtype.is_floating else tf.zeros_like(x, tf.bool),
    "isinf": lambda x: tf.math.is_inf(x) if x.dtype.is_floating else tf.zeros_like(x, tf.bool),
    "isfinite": lambda x: tf.math.is_finite(x) if x.dtype.is_floating else tf.ones_like(x, tf.bool),
    "logical_not": lambda x: tf.logical_not(tf.cast(x, tf.bool)),
}

COMPARED: dict[str, Compute] = {
    "eq": tf.equal,
    "ne": tf.not_equal,
    "lt": tf.less,
    "le": tf.less_equal,
    "gt": tf.greater,
    "ge": tf.greater_equal,
}

LOGICAL: dict[str, Compute] = {
    "logical_and": tf.logical_and,
    "logical_or": tf.logical_or,
    "logical_xor": tf.math.logical_xor,
}

BITWISE: dict[str, tuple[Compute, Compute]] = {
    "bitwise_and": (tf.logical_and, tf.bitwise.bitwise_and),
    "bitwise_or": (tf.logical_or, tf.bitwise.bitwise_or),
    "bitwise_xor": (tf.math.logical_xor, tf.bitwise.bitwise_xor),
}

#: Functions of two numbers in the dtype of their result.
PAIRED: dict[str, Compute] = {
    "maximum": tf.maximum,
    "minimum": tf.minimum,
    "atan2": tf.atan2,
    "remainder": tf.math.floormod,
    "fmod": tf.truncatemod,
    "floor_divide": tf.math.floordiv,
    "pow": tf.pow,
}


def _register() -> None:
    for name, function in ALIKE.items():
        OPERATORS[f"{name}.default"] = Operator(lambda call, x, f=function: f(cast(x, call.dtype)))
    for name in ("abs", "angle"):  # of complex numbers too, whose results are real
        OPERATORS[f"{name}.default"] = Operator(lambda _, x, f=ALIKE[name]: f(x))
    for name, function in ROUNDING.items():
        OPERATORS[f"{name}.default"] = Operator(lambda _, x, f=function: x if x.dtype.is_integer else f(x))
    for name, function in ASKED.items():
        OPERATORS[f"{name}.default"] = Operator(lambda _, x, f=function: f(x))
    for name, function in COMPARED.items():
        compared = Operator(lambda _, a, b, f=function: f(*alike(a, b)))
        OPERATORS[f"{name}.Tensor"] = OPERATORS[f"{name}.Scalar"] = compared
    for name, function in LOGICAL.items():
        OPERATORS[f"{name}.default"] = Operator(lambda _, a, b, f=function: f(cast(a, tf.bool), cast(b, tf.bool)))
    for name, both in BITWISE.items():
        bitwise = Operator(lambda call, a, b, f=both: _bits(call, a, b, f))
        OPERATORS[f"{name}.Tensor"] = OPERATORS[f"{name}.Scalar"] = bitwise
    for name, function in PAIRED.items():
        paired = Operator(lambda call, a, b, f=function: f(cast(a, call.dtype), cast(b, call.dtype)))
        for form in ("default", "Tensor", "Scalar", "Tensor_Tensor", "Tensor_Scalar"):
            OPERATORS[f"{name}.{form}"] = paired


def _bits(call: Call, a: Any, b: Any, both: tuple[Compute, Compute]) -> tf.Tensor:
    function = both[0] if call.dtype == tf.bool else both[1]
    return function(cast(a, call.dtype), cast(b, call.dtype))


def alike(a: Any, b: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Give two values, one of them maybe a number, in the dtype that PyTorch compares them in."""
    tensors = [value for value in (a, b) if isinstance(value, tf.Tensor)]
    # A tensor of no dimensions gives way to one that has some, as a number does.
    ranked = [value for value in tensors if value.shape.rank] or tensors
    dtype = max((value.dtype for value in ranked), key=_weight)
    for value in (a, b):
        if _kind(value) > _kind(tf.zeros([], dtype)):
            dtype = value.dtype if isinstance(value, tf.Tensor) else _PYTHON[_kind(value)]
    return cast(a, dtype), cast(b, dtype)


_PYTHON = {1: tf.int64, 2: tf.float32}  # what a number makes of a tensor of a lesser kind


def _kind(value: Any) -> int:
    if not isinstance(value, tf.Tensor):
        return 0 if isinstance(value, bool) else 1 if isinstance(value, int) else 2
    return 0 if value.dtype == tf.bool else 1 if value.dtype.is_integer else 2 if value.dtype.is_floating else 3


def _weight(dtype: tf.DType) -> tuple[int, int]:
    return _kind(tf.zeros([], dtype)), dtype.size


@operator("add.Tensor", "add.Scalar")
def add(call: Call, a: Any, b: Any, alpha: Any = 1) -> tf.Tensor:
    """Add, the second one times `alpha`."""
    first, second = cast(a, call.dtype), cast(b, call.dtype)
    if call.dtype == tf.bool:
        return tf.logical_or(first, second)
    return first + (second if alpha == 1 else second * cast(alpha, call.dtype))


@operator("mul.Tensor", "mul.Scalar")
def multiply(call: Call, a: Any, b: Any) -> tf.Tensor:
    """Multiply; of two truths, both."""
    first, second = cast(a, call.dtype), cast(b, call.dtype)
    return tf.logical_and(first, second) if call.dtype == tf.bool else first * second


@operator("sub.Tensor", "sub.Scalar")
def subtract(call: Call, a: Any, b: Any, alpha: Any = 1) -> tf.Tensor:
    """Subtract, the second one times `alpha`."""
    second = cast(b, call.dtype)
    return cast(a, call.dtype) - (second if alpha == 1 else second * cast(alpha, call.dtype))


@operator("rsub.Tensor", "rsub.Scalar")
def subtract_from(call: Call, a: Any, b: Any, alpha: Any = 1) -> tf.Tensor:
    """Subtract the first, times `alpha`, from the second."""
    return subtract(call, b, a, alpha)


@operator("div.Tensor", "div.Scalar", "true_divide.Tensor", "div.Tensor_mode", "div.Scalar_mode")
def divide(call: Call, a: Any, b: Any, rounding_mode: str | None = None) -> tf.Tensor:
    """Divide, rounded down or towards zero where asked."""
    first, second = cast(a, call.dtype), cast(b, call.dtype)
    if rounding_mode is None:
        return tf.divide(first, second)
    if call.dtype.is_integer:
        return tf.math.floordiv(first, second) if rounding_mode == "floor" else tf.truncatediv(first, second)
    return ROUNDING[rounding_mode](first / second)


@operator("pow.Scalar")
def power_of_number(call: Call, base: Any, exponent: Any) -> tf.Tensor:
    """Raise a number to the powers that a tensor holds."""
    return tf.pow(cast(base, call.dtype), cast(exponent, call.dtype))


@operator("pow.Tensor_Scalar")
def power(call: Call, base: Any, exponent: Any) -> tf.Tensor:
    """Raise to a power; squares and roots as such, which are more exact."""
    value = cast(base, call.dtype)
    if exponent == 2:
        return tf.square(value)
    return tf.sqrt(value) if exponent == 0.5 else tf.pow(value, cast(exponent, call.dtype))


@operator("log2.default", "log10.default")
def logarithm(call: Call, value: tf.Tensor) -> tf.Tensor:
    """Take the logarithm to base 2 or 10."""
    wide = tf.cast(value, tf.float64)
    base = 2.0 if "log2" in call.operator else 10.0
    return tf.cast(tf.math.log(wide) / tf.math.log(tf.constant(base, tf.float64)), call.dtype)


@operator("exp2.default")
def power_of_two(call: Call, value: tf.Tensor) -> tf.Tensor:
    """Raise 2 to a power."""
    return tf.pow(tf.constant(2, call.dtype), cast(value, call.dtype))


@operator("bitwise_not.default")
def bitwise_not(call: Call, value: tf.Tensor) -> tf.Tensor:
    """Turn every bit round."""
    return tf.logical_not(value) if call.dtype == tf.bool else tf.bitwise.invert(value)


@operator("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(call: Call, condition: tf.Tensor, a: Any, b: Any) -> tf.Tensor:
    """Choose between two."""
    return tf.where(tf.cast(condition, tf.bool), cast(a, call.dtype), cast(b, call.dtype))


@operator("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(call: Call, value: tf.Tensor, mask: tf.Tensor, number: Any) -> tf.Tensor:
    """Put a number wherever a mask says so."""
    return tf.where(mask, cast(number, call.dtype), value)


@operator("clamp.default", "clamp.Tensor")
def clamp(call: Call, value: tf.Tensor, least: Any = None, most: Any = None, **named: Any) -> tf.Tensor:
    """Keep within bounds."""
    least, most = named.get("min", least), named.get("max", most)
    value = cast(value, call.dtype)
    value = value if least is None else tf.maximum(value, cast(least, call.dtype))
    return value if most is None else tf.minimum(value, cast(most, call.dtype))


@operator("clamp_min.default", "clamp_min.Tensor")
def clamp_min(call: Call, value: tf.Tensor, least: Any) -> tf.Tensor:
    """Keep at least at a bound."""
    return clamp(call, value, least)


@operator("clamp_max.default", "clamp_max.Tensor")
def clamp_max(call: Call, value: tf.Tensor, most: Any) -> tf.Tensor:
    """Keep at most at a bound."""
    return clamp(call, value, None, most)


@operator("_to_copy.default", "to.dtype", "lift_fresh_copy.default", "clone.default", "alias.default", "detach.default",
          "detach_.default", "contiguous.default", "type_as.default", "to.dtype_layout", "dropout.default",
          "convert_element_type.default")  # fmt: skip
def same(call: Call, value: Any, *_: Any, **__: Any) -> tf.Tensor:
    """Give the same numbers, in another dtype where asked."""
    return cast(value, call.dtype)


@operator("copy.default")
def copied(call: Call, into: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Give one tensor's numbers in the shape and dtype of another."""
    return tf.broadcast_to(cast(value, call.dtype), tf.shape(into))


def _python(name: str, function: Compute) -> None:
    OPERATORS[name] = Operator(lambda _, *args: function(*args))


for _name in ("getitem", "add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge"):
    _python(_name, getattr(python, _name))
_register()


@operator("sym_max", "max")
def size_max(_: Call, a: Any, b: Any) -> Any:
    """Give the greater of two sizes."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else tf.maximum(a, b)


@operator("sym_min", "min")
def size_min(_: Call, a: Any, b: Any) -> Any:
    """Give the smaller of two sizes."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else tf.minimum(a, b)


@operator("sym_float")
def size_float(_: Call, size: Any) -> Any:
    """Give a size as a number that has fractions."""
    return float(size) if isinstance(size, int) else tf.cast(size, tf.float64)


@operator("truediv")
def size_ratio(_: Call, a: Any, b: Any) -> Any:
    """Give the ratio of two sizes."""
    known = isinstance(a, (int, float)) and isinstance(b, (int, float))
    return a / b if known else cast(a, tf.float64) / cast(b, tf.float64)


@operator("trunc", "floor")
def size_down(_: Call, number: Any) -> Any:
    """Round a size down; sizes are never negative."""
    return int(number // 1) if isinstance(number, (int, float)) else tf.cast(tf.floor(number), tf.int32)


@operator("ceil")
def size_up(_: Call, number: Any) -> Any:
    """Round a size up."""
    return int(-(-number // 1)) if isinstance(number, (int, float)) else tf.cast(tf.math.ceil(number), tf.int32)


@operator("_local_scalar_dense.default", "item.default")
def number_of(_: Call, value: tf.Tensor) -> tf.Tensor:
    """Take the only number out of a tensor; sizes are 32 bits wide here."""
    scalar = tf.reshape(value, [])
    return tf.cast(scalar, tf.int32) if scalar.dtype.is_integer else scalar
