"""Complex numbers, as front-ends of audio models use them: pairs of real ones, and Fourier transforms as products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from convert.errors import RouteError
from convert.torch_rewrites import TORCH_REWRITES, TorchRewrite
from convert.torch_rewrites._fourier import TRANSFORMS, Pair, basis, pair

if TYPE_CHECKING:
    import torch


def needed(node: torch.fx.Node) -> bool:
    """Whether the call takes or gives complex numbers."""
    return any(_is_complex(value) for value in (node, *node.all_input_nodes))


def _is_complex(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return hasattr(value, "is_complex") and bool(value.is_complex())


def apply(node: torch.fx.Node, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Compute the call on pairs; raises RouteError for an operator that has no rule here."""
    name = str(node.target).removeprefix("aten.").partition(".")[0]
    if name in EACH_PART:
        return Pair(*(node.target(*_part(args, part), **kwargs) for part in ("real", "imag")))
    rule = RULES.get(name)
    if rule is None:
        raise RouteError(
            f"there is no way to say {node.target} of complex numbers in real ones", fix="compute with real tensors"
        )
    if rule is stft:
        named = zip((argument.name for argument in node.target._schema.arguments), args, strict=False)
        (_, signal), *more = named
        return stft(signal, **dict(more), **kwargs)
    return rule(*args, **kwargs)


#: Operators that do to the complex numbers what they do to both parts: shapes and sums.
EACH_PART = frozenset(
    {
        *(
            "permute",
            "transpose",
            "unsqueeze",
            "squeeze",
            "slice",
            "select",
            "view",
            "reshape",
            "_unsafe_view",
            "clone",
        ),
        *(
            "contiguous",
            "expand",
            "flatten",
            "unflatten",
            "detach",
            "alias",
            "sum",
            "mean",
            "cat",
            "stack",
            "neg",
            "narrow",
        ),
        *("index_select", "flip", "movedim", "t", "detach_", "repeat", "index", "roll"),
    }
)


def _part(value: Any, part: str) -> Any:
    if isinstance(value, Pair):
        return getattr(value, part)
    return type(value)(_part(item, part) for item in value) if isinstance(value, (list, tuple)) else value


def stft(
    signal: torch.Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: torch.Tensor | None = None,
    **settings: Any,
) -> Any:
    """Transform pieces of a signal, [..., samples] to [..., bins, frames], as one convolution.

    `settings` are the operator's others by name.
    """
    import torch

    if settings.get("center") or settings.get("align_to_window"):
        raise RouteError("an STFT that pads inside the operator is not known", fix="export it with this PyTorch")
    hop = hop_length or n_fft // 4
    length = win_length or n_fft
    onesided = settings.get("onesided")
    cosines, sines = basis(n_fft, n_fft // 2 + 1 if onesided is None or onesided else n_fft)
    kernel = torch.cat([cosines, sines], dim=1).t()
    shape = torch.ones(length) if window is None else window
    if length < n_fft:
        left = (n_fft - length) // 2
        shape = torch.nn.functional.pad(shape, [left, n_fft - length - left])
    kernel = kernel * shape * (n_fft**-0.5 if settings.get("normalized") else 1.0)
    flat = signal.reshape(-1, 1, signal.shape[-1])
    found = torch.nn.functional.conv1d(flat, kernel.unsqueeze(1), stride=hop)
    found = found.reshape(*signal.shape[:-1], *found.shape[1:])
    real, imag = found.chunk(2, dim=-2)
    return Pair(real, imag) if settings.get("return_complex", True) else torch.stack([real, imag], dim=-1)


def multiplied(left: Any, right: Any) -> Pair:
    """Multiply two numbers of which one is complex."""
    if not isinstance(left, Pair) or not isinstance(right, Pair):
        pair, factor = (left, right) if isinstance(left, Pair) else (right, left)
        return Pair(pair.real * factor, pair.imag * factor)
    return Pair(left.real * right.real - left.imag * right.imag, left.real * right.imag + left.imag * right.real)


def divided(left: Any, right: Any) -> Pair:
    """Divide a complex number by a real or a complex one."""
    if not isinstance(right, Pair):
        return Pair(left.real / right, left.imag / right)
    square = right.real * right.real + right.imag * right.imag
    product = multiplied(left, Pair(right.real, -right.imag))
    return Pair(product.real / square, product.imag / square)


def _stacked(pair: Pair) -> Any:
    import torch

    return torch.stack([pair.real, pair.imag], dim=-1)


def _angle(pair: Pair) -> Any:
    import torch

    return torch.atan2(pair.imag, pair.real)


RULES: dict[str, Callable[..., Any]] = {
    "stft": stft,
    **TRANSFORMS,
    "complex": Pair,
    "view_as_complex": lambda value: Pair(value[..., 0], value[..., 1]),
    "view_as_real": _stacked,
    "real": lambda pair: pair.real,
    "imag": lambda pair: pair.imag,
    "abs": lambda pair: (pair.real * pair.real + pair.imag * pair.imag).sqrt(),
    "angle": _angle,
    "conj": lambda pair: Pair(pair.real, -pair.imag),
    "_conj": lambda pair: Pair(pair.real, -pair.imag),
    "resolve_conj": lambda pair: pair,
    "add": lambda left, right: Pair(pair(left).real + pair(right).real, pair(left).imag + pair(right).imag),
    "sub": lambda left, right: Pair(pair(left).real - pair(right).real, pair(left).imag - pair(right).imag),
    "mul": multiplied,
    "div": divided,
}


TORCH_REWRITES.register(
    TorchRewrite(
        name="complex_numbers",
        title="complex numbers as pairs of real ones",
        said="Fourier transforms and complex numbers were rewritten as real arithmetic (TFLite has no complex STFT)",
        needed=needed,
        apply=apply,
    )
)
