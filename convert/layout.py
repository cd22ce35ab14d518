"""Image layouts: which inputs are images, and the order of axes that turns one layout into the other."""

from __future__ import annotations

import dataclasses

from convert.errors import UsageError
from convert.spec import KEEP, NCHW, NHWC, Signature, TensorSpec

#: Sizes of a channel axis that make an input an image: grey, colour, colour with transparency. Feature maps have more.
CHANNELS = (1, 3, 4)

#: What an image's numbers are.
PIXELS = ("float32", "float16", "uint8", "int8")

#: Axes of the source in the order in which the artifact has them.
AXES = {(NCHW, NHWC): (0, 2, 3, 1), (NHWC, NCHW): (0, 3, 1, 2)}


def marked(signature: Signature, layout: str) -> Signature:
    """Mark the inputs that are images with the layout their framework gives images; others stay as they are."""
    return dataclasses.replace(signature, inputs=tuple(_marked(spec, layout) for spec in signature.inputs))


def _marked(spec: TensorSpec, layout: str) -> TensorSpec:
    channels = spec.shape[3 if layout == NHWC else 1] if len(spec.shape) == 4 else None
    image = bool(layout) and not spec.layout and channels in CHANNELS and spec.dtype in PIXELS
    return dataclasses.replace(spec, layout=layout) if image else spec


def stated(signature: Signature, layout: str) -> Signature:
    """Give the layout that somebody stated to the images of a file that does not say it; `keep` states none."""
    return signature if layout == KEEP else marked(signature, layout)


def axes_to(spec: TensorSpec, layout: str) -> tuple[int, ...]:
    """Give the axes of `spec` in the order `layout` has them; empty where nothing moves."""
    return AXES.get((spec.layout, layout), ())


def moved(spec: TensorSpec, layout: str) -> TensorSpec:
    """Give an input as it is in another layout; one that is no image stays as it is."""
    axes = axes_to(spec, layout)
    return dataclasses.replace(spec, shape=tuple(spec.shape[axis] for axis in axes), layout=layout) if axes else spec


def promised(signature: Signature, layout: str) -> Signature:
    """Give a signature with its images in another layout."""
    return dataclasses.replace(signature, inputs=tuple(moved(spec, layout) for spec in signature.inputs))


def permutations(signature: Signature, layout: str) -> dict[str, tuple[int, ...]]:
    """Give, for every input that changes its layout, the source's axes in the artifact's order."""
    return {spec.name: axes for spec in signature.inputs if (axes := axes_to(spec, layout))}


def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """Give the permutation that takes `axes` back."""
    return tuple(axes.index(axis) for axis in range(len(axes)))


def require_image(signature: Signature, layout: str) -> None:
    """Raise UsageError where a layout was asked for and no input is an image."""
    if layout != KEEP and not any(spec.layout for spec in signature.inputs):
        raise UsageError(
            f"--layout {layout}: no input of {signature} is an image (four axes, 1, 3 or 4 channels)",
            fix="leave --layout out",
        )
