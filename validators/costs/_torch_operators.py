"""The multiply-accumulates of PyTorch's operators, as its dispatcher sees them run."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from validators.costs import _formulas as formulas

#: Operators without multiply-accumulates that are neither views nor tagged as pointwise by PyTorch. What is in no list
#: here has none that are known.
NONE = frozenset(
    {
        "_adaptive_avg_pool2d",
        "_adaptive_avg_pool3d",
        "_cat",
        "_embedding_bag",
        "_embedding_bag_forward_only",
        "_fused_rms_norm",
    }
    | {"_local_scalar_dense", "_log_softmax", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"}
    | {
        "_safe_softmax",
        "_softmax",
        "_to_copy",
        "_unique2",
        "_unsafe_view",
        "_upsample_bicubic2d_aa",
        "_upsample_bilinear2d_aa",
    }
    | {"_upsample_nearest_exact2d", "adaptive_avg_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "all", "amax"}
    | {"amin", "any", "arange", "argmax", "argmin", "argsort", "avg_pool2d", "avg_pool3d", "batch_norm", "bucketize"}
    | {"cat", "channel_shuffle", "clone", "col2im", "constant_pad_nd", "contiguous", "copy", "copy_", "cumprod"}
    | {"cumsum", "dequantize", "detach", "embedding", "empty", "empty_like", "empty_strided", "eye", "fill_", "flip"}
    | {"fractional_max_pool2d", "full", "full_like", "gather", "glu", "grid_sampler_2d", "grid_sampler_3d"}
    | {"im2col", "index", "index_add", "index_copy", "index_fill", "index_put", "index_put_", "index_select", "isin"}
    | {"lift_fresh", "lift_fresh_copy", "linspace", "log_softmax", "logcumsumexp", "logsumexp", "masked_fill"}
    | {"masked_scatter", "masked_select", "max", "max_pool2d_with_indices", "max_pool3d_with_indices", "max_unpool2d"}
    | {"mean", "median", "min", "mkldnn_max_pool2d", "mkldnn_reorder_conv2d_weight", "mode", "native_batch_norm"}
    | {"native_channel_shuffle", "native_group_norm", "native_layer_norm", "new_empty", "new_full", "new_ones"}
    | {
        "new_zeros",
        "nonzero",
        "one_hot",
        "ones",
        "ones_like",
        "pixel_shuffle",
        "pixel_unshuffle",
        "prelu",
        "_prelu_kernel",
    }
    | {"prod", "q_scale", "q_zero_point", "quantize_per_channel", "quantize_per_tensor", "quantize_per_tensor_dynamic"}
    | {"rand", "rand_like", "randn", "randn_like", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "repeat"}
    | {"repeat_interleave", "replication_pad1d", "replication_pad2d", "replication_pad3d", "resize_", "roll"}
    | {"rot90", "scalar_tensor", "scatter", "scatter_", "scatter_add", "scatter_add_", "scatter_reduce", "searchsorted"}
    | {
        "select_scatter",
        "set_",
        "slice_scatter",
        "softmax",
        "sort",
        "split_with_sizes_copy",
        "stack",
        "std",
        "std_mean",
    }
    | {"sum", "to_dense", "to_mkldnn", "topk", "transpose_", "tril", "tril_indices", "triu", "triu_indices"}
    | {"unfold_copy", "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes", "unsqueeze_", "squeeze_", "uniform_"}
    | {"upsample_bicubic2d", "upsample_bilinear2d", "upsample_linear1d", "upsample_nearest1d", "upsample_nearest2d"}
    | {"upsample_nearest3d", "upsample_trilinear3d", "var", "var_mean", "where", "zero_", "zeros", "zeros_like"}
    # Of integers.
    | {
        "add_relu",
        "add_scalar",
        "embedding_byte",
        "embedding_4bit",
        "hardswish",
        "leaky_relu",
        "mul_relu",
        "mul_scalar",
    }
    | {"batch_norm1d", "batch_norm2d", "batch_norm2d_relu", "batch_norm3d", "instance_norm", "layer_norm", "group_norm"}
    | {"quantized_max_pool1d", "quantized_max_pool2d", "elu", "sigmoid", "softmax", "celu"}
)

#: Convolutions whose weight comes second.
CONVOLUTIONS = frozenset(
    {"convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution", "_slow_conv2d_forward"}
    | {"slow_conv3d_forward", "conv_depthwise3d", "_conv_depthwise2d", "thnn_conv2d"}
)

#: Matrix products, and where among their arguments the two factors are.
PRODUCTS = {"mm": 0, "bmm": 0, "mv": 0, "dot": 0, "_int_mm": 0, "addmm": 1, "addmm_": 1, "baddbmm": 1, "addmv": 1}
PRODUCTS |= {"_addmm_activation": 1, "addbmm": 1}

ATTENTION = frozenset(
    {"_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math"}
    | {"_scaled_dot_product_fused_attention_overrideable"}
)


def macs_of(function: Any, args: Sequence[Any], found: Any) -> int | None:
    """Give the MACs of one call of an operator; None where they are not known."""
    import torch

    domain, _, name = function._schema.name.partition("::")
    if function.is_view or torch.Tag.pointwise in function.tags:
        return 0
    if domain == "quantized":
        return _quantized(name, args, found)
    if name in CONVOLUTIONS:
        transposed = name in ("convolution", "_convolution", "convolution_overrideable") and args[6]
        taps = args[1].shape[1:]
        if transposed:
            return formulas.transposed_convolution(args[0].shape, taps)
        made = found[0] if isinstance(found, tuple) else found
        return formulas.convolution(made.shape, taps)
    if (at := PRODUCTS.get(name)) is not None:
        left, right = args[at], args[at + 1]
        if name == "addbmm":
            return int(left.numel()) * int(right.shape[-1])
        return formulas.product(found.shape, left.shape[-1])
    if name in ("linear", "mkldnn_linear", "_mkldnn_linear_pointwise"):
        return formulas.product(found.shape, args[0].shape[-1])
    if name in ATTENTION:
        return formulas.attention(args[0].shape, args[2].shape)
    if name == "mkldnn_rnn_layer":
        return formulas.recurrent(prod(args[0].shape[:2]), [args[1].shape, args[2].shape])
    if name in ("quantized_lstm", "quantized_gru"):
        return _cells(args[0], args[2])
    if name == "_trilinear":
        return None
    return 0 if name in NONE else None


def _quantized(name: str, args: Sequence[Any], found: Any) -> int | None:
    """Give the MACs of an operator on integers, whose weight is packed."""
    import torch

    if name.startswith("linear"):
        return None if "prepack" in name else formulas.product(found.shape, args[0].shape[-1])
    if name.startswith("conv") and "prepack" not in name:
        axes = name[name.index("d") - 1] if not name.startswith("conv_transpose") else name[len("conv_transpose")]
        transposed = name.startswith("conv_transpose")
        unpack = getattr(torch.ops.quantized, f"conv{'_transpose' if transposed else ''}{axes}d_unpack")
        taps = unpack(args[1])[0].shape[1:]
        if transposed:
            return formulas.transposed_convolution(args[0].shape, taps)
        return formulas.convolution(found.shape, taps)
    if name in ("matmul",):
        return formulas.product(found.shape, args[0].shape[-1])
    plain = name.removesuffix("_out")
    return 0 if plain in NONE or plain in ("add", "mul", "cat", "cat_relu", "relu6", "prelu", "hardsigmoid") else None


def _cells(taken: Any, cells: Sequence[Any]) -> int | None:
    """Give the MACs of recurrent layers with packed weights, one cell for each layer and direction."""
    import torch

    total = 0
    for cell in cells:
        kind, _, _, _, packs = cell.__getstate__()[0]
        if kind not in ("quantized_dynamic", "quantized_fp16"):
            return None
        unpack = torch.ops.quantized.linear_unpack
        if kind == "quantized_fp16":
            unpack = torch.ops.quantized.linear_unpack_fp16
        total += formulas.recurrent(prod(taken.shape[:2]), [unpack(pack)[0].shape for pack in packs])
    return total
