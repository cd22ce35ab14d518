"""Networks of one operator or a few, that together call every operator with a counterpart in TensorFlow."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  the field's own name

torch.manual_seed(0)

UNARY = (
    "abs", "neg", "exp", "expm1", "sin", "cos", "tan", "sinh", "cosh", "tanh", "erf", "erfc", "sign", "square",
    "sigmoid", "relu", "floor", "ceil", "round", "trunc", "asinh", "isnan", "isfinite", "logical_not", "atan",
    "exp2",
)  # fmt: skip

#: Functions of `x`, float32[batch,4,9,7]; each gives what several operators make of it.
FUNCTIONS = {
    "unary": lambda x: [getattr(x, name)() for name in UNARY],
    "positive": lambda x: [
        x.abs().add(0.1).log(),
        x.abs().log1p(),
        x.abs().add(1).log2(),
        x.abs().add(1).log10(),
        x.abs().sqrt(),
        x.abs().add(0.1).rsqrt(),
        x.abs().add(0.1).lgamma(),
        x.clamp(-0.9, 0.9).asin(),
    ],
    "binary": lambda x: [
        x + 2 * x.flip(2),
        x - 1,
        2 - x,
        x / (x.abs() + 1),
        x**2,
        x.abs() ** 0.5,
        2**x,
        x.abs() ** 1.7,
        torch.maximum(x, -x),
        torch.atan2(x, x + 1),
        x % 0.7,
        torch.fmod(x, 0.7),
        x // 0.5,
        torch.div(x, 0.3, rounding_mode="trunc"),
        torch.add(x, x, alpha=3),
        torch.rsub(x, 1),
    ],
    "compared": lambda x: [
        x > 0,
        x <= 0.5,
        x == x.round(),
        x != x,
        (x > 0) & (x < 1),
        (x > 0) | (x < -1),
        ~(x > 0),
        torch.where(x > 0, x, 0.0),
        x.masked_fill(x > 1, float("-inf")),
        x.clamp(-0.5, 0.5),
        x.clamp(min=0.1),
        (x > 0).any(1),
        (x > 0).all(2),
        x.isinf(),
    ],
    "activations": lambda x: [
        F.gelu(x),
        F.gelu(x, approximate="tanh"),
        F.silu(x),
        F.mish(x),
        F.elu(x),
        F.selu(x),
        F.celu(x),
        F.leaky_relu(x, 0.2),
        F.softplus(x),
        F.hardswish(x),
        F.hardsigmoid(x),
        F.hardtanh(x),
        F.relu6(x),
        F.logsigmoid(x),
        F.softsign(x),
        F.threshold(x, 0.1, 2.0),
        F.glu(x, 1),
    ],
    "softmax": lambda x: [x.softmax(1), x.log_softmax(-1), x.logsumexp(2), F.normalize(x, dim=1), F.softmin(x, 1)],
    "reduced": lambda x: [
        x.sum(1),
        x.mean((2, 3), keepdim=True),
        x.amax(1),
        x.amin((1, 2)),
        x.var(1),
        x.std(2, keepdim=True),
        *torch.var_mean(x, dim=1),
        x.prod(3),
        x.argmax(1),
        x.argmin(2, keepdim=True),
        *x.max(1),
        *x.min(2),
        x.cumsum(1),
        x.cumprod(2),
        x.norm(dim=1),
        x.norm(p=1, dim=2),
        x.flatten(1).sum(1),
    ],
    "ordered": lambda x: [
        *x.topk(2, 1),
        *x.topk(3, 2, largest=False),
        *x.sort(1),
        *x.sort(3, descending=True),
        x.argsort(2),
    ],
    "shaped": lambda x: [
        x.reshape(x.shape[0], -1),
        x.permute(3, 0, 1, 2),
        x[:, None],
        x[:, 1],
        x[:, 1:3, ::2],
        x[..., -2:],
        x.transpose(1, -1),
        x.flip(1),
        x.roll(2, 1),
        x.roll(3),
        x.repeat(1, 2, 1, 1),
        x.unflatten(1, (2, 2)),
        *x.split(3, 2),
        *x.chunk(2, 1),
        torch.cat([x, x[:, :1]], 1),
        torch.stack([x, -x], 1),
        *x.unbind(1),
        x[:, :, :1].expand(-1, -1, 5, -1),
        x[:, :, :, 0].tril(),
        x[:, 0].triu(1),
        x.unfold(2, 3, 2),
    ],
    "padded": lambda x: [
        F.pad(x, (1, 2, 0, 1)),
        F.pad(x, (1, -1)),
        F.pad(x, (2, 1, 1, 2), mode="reflect"),
        F.pad(x, (2, 1, 1, 2), mode="replicate"),
        F.pad(x, (1, 1), value=3.0),
        F.pad(x, (1, 2, 1, 0), mode="circular"),
    ],
    "pooled": lambda x: [
        F.max_pool2d(x, 3, 2, 1),
        F.max_pool2d(x, 2, ceil_mode=True),
        F.max_pool2d(x, 2, 1, dilation=2),
        F.avg_pool2d(x, 3, 2, 1),
        F.avg_pool2d(x, 2, ceil_mode=True),
        F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        F.avg_pool2d(x, 2, divisor_override=3),
        F.adaptive_avg_pool2d(x, 1),
        F.adaptive_avg_pool2d(x, (4, 3)),
        F.adaptive_max_pool2d(x, (2, 3)),
        F.max_pool1d(x[:, 0], 3),
        F.avg_pool1d(x[:, 0], 3),
        F.adaptive_avg_pool1d(x[:, 0], 3),
        F.lp_pool2d(x.abs(), 2, 2),
    ],
    "resized": lambda x: [
        F.interpolate(x, scale_factor=2.0),
        F.interpolate(x, (5, 11)),
        F.interpolate(x, (5, 11), mode="bilinear"),
        F.interpolate(x, (13, 6), mode="bilinear", align_corners=True),
        F.interpolate(x, (13, 6), mode="bicubic"),
        F.interpolate(x, scale_factor=1.7, mode="bilinear"),
        F.interpolate(x[:, 0], 5, mode="linear"),
        F.pixel_shuffle(x, 2),
        F.pixel_unshuffle(x[:, :, :8, :6], 2),
        F.channel_shuffle(x, 2),
    ],
    "sampled": lambda x: [
        F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1) * 1.2, mode, beyond, corners)
        for mode in ("bilinear", "nearest")
        for beyond in ("zeros", "border", "reflection")
        for corners in (False, True)
    ],
    "fourier": lambda x: [
        torch.view_as_real(torch.fft.rfft(x)),
        torch.fft.fft2(x).abs(),
        torch.fft.irfft(torch.fft.rfft(x, dim=2), 9, dim=2),
        torch.fft.ifft(torch.fft.fft(x, dim=1), dim=1).real,
        torch.fft.rfft2(x).angle().cos(),
        torch.stft(x.flatten(1)[:, :128], 16, 8, window=torch.hann_window(16), return_complex=True).abs(),
    ],
    "attention": lambda x: [
        F.scaled_dot_product_attention(x, x * 2, x + 1),
        F.scaled_dot_product_attention(x, x, x, is_causal=True),
        torch.einsum("bchw,bdhw->bcd", x, x),
        torch.baddbmm(x[:, 0], x[:, 0], x[:, 1, :7], beta=0.5),
        x @ x.mT,
    ],
}


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return tuple(self.function(*tensors))


class Layers(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        return tuple(layer(x) for layer in self.layers)


def grown(layer):
    for part in layer.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(), part.running_var.uniform_(0.5, 2)
    return layer.eval()


def indexed(x, ids):
    rows = torch.arange(x.shape[0])[:, None]
    return [
        x[:, ids[0] % 4],
        x[rows, ids % 4],
        x[:, :, ids[:1], ids[:1] % 2],
        x.gather(1, (ids[:, :2] % 4)[:, :, None, None]),
        x.index_select(2, ids[0]),
        torch.zeros(x.shape[0], 6).scatter(1, ids[:, :1], 1.0),
        torch.zeros(x.shape[0], 6).scatter_add(1, ids, x[:, 0, :5, 0]),
        F.one_hot(ids, 6),
        x[:, :, 0].index_fill(1, torch.tensor([1]), 0.0),
        ids * 2 + 1,
        ids.float() / 3,
        ids // 2,
        ids == 2,
        ids.sum(1),
        ids.to(torch.int32),
        (x[:, 0, :5, 0] > ids),
    ]


def written(x):
    x = x.clone()
    x[:, 1] = 0.0
    x[:, 2, 1:3] = x[:, 0, 1:3]
    x[:, [0, 3], :, 0] += 1.0
    return [
        x,
        torch.arange(x.shape[0]) * 2,
        torch.full((x.shape[0], 2), 1.5),
        torch.ones_like(x),
        torch.eye(3) + x[:, :3, :3, 0],
        torch.linspace(0, 1, 7) * x,
        torch.zeros(x.shape[0], 1),
        torch.tensor([1.0, 2.0])[None] + x[:, 0, 0, :2],
    ]


CASES = {name: (Call(function), "x") for name, function in FUNCTIONS.items()}
CASES["indexed"] = (Call(indexed), "x ids")
CASES["written"] = (Call(written), "x")
CASES["free"] = (
    Call(
        lambda y: [
            y.mean(2),
            y.softmax(2),
            y.flip(2),
            y[:, :, 1:],
            torch.cat([y, y], 2),
            y.transpose(1, 2) @ y,
            F.avg_pool1d(y, 2),
            F.interpolate(y, scale_factor=2.0),
            F.pad(y, (1, 2)),
            torch.arange(y.shape[2]) + y,
            F.layer_norm(y, (y.shape[2],)),
            y.reshape(y.shape[0], 2, 3, y.shape[2]).sum(1),
            y.cumsum(2),
            F.adaptive_avg_pool1d(y, 3),
            y.expand(2, *y.shape).sum(0),
        ]
    ),
    "y",
)
CASES["convolved"] = (
    grown(
        Layers(
            nn.Conv2d(4, 6, 3),
            nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1)),
            nn.Conv2d(4, 8, 3, groups=2, padding="same"),
            nn.Conv2d(4, 8, 3, groups=4, stride=2),
            nn.Conv2d(4, 4, 3, groups=4, stride=(1, 2)),
            nn.Conv2d(4, 4, 3, groups=4, dilation=2),
            nn.Conv2d(4, 6, 3, dilation=2, stride=2, bias=False),
            nn.ConvTranspose2d(4, 6, 3),
            nn.ConvTranspose2d(4, 6, 3, 2, 1, 1),
            nn.ConvTranspose2d(4, 6, 2, 3, 0, 2),
            nn.ConvTranspose2d(4, 8, 3, 2, 1, groups=2),
            nn.ConvTranspose2d(4, 4, 3, dilation=2, padding=3),
            nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 6, 5, stride=2, dilation=2, padding=1)),
            nn.Sequential(nn.Flatten(2), nn.ConvTranspose1d(4, 6, 4, 3, 1, 2)),
            nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Conv3d(2, 4, (1, 3, 3), padding=(1, 1, 0), groups=2)),
            nn.Sequential(
                nn.Unflatten(1, (2, 2)), nn.ConvTranspose3d(2, 3, 2, stride=2), nn.MaxPool3d(2), nn.AvgPool3d(2)
            ),
        )
    ),
    "x",
)
CASES["normalised"] = (
    grown(
        Layers(
            nn.BatchNorm2d(4),
            nn.LayerNorm(7),
            nn.LayerNorm((9, 7), elementwise_affine=False),
            nn.GroupNorm(2, 4),
            nn.InstanceNorm2d(4, affine=True),
            nn.Sequential(nn.Flatten(), nn.BatchNorm1d(252)),
            nn.RMSNorm(7),
            nn.LocalResponseNorm(2),
            nn.PReLU(4),
            nn.Linear(7, 5),
            nn.Sequential(nn.Flatten(2), nn.LSTM(63, 5, batch_first=True)),
        )
    ),
    "x",
)
CASES["looked_up"] = (
    Layers(
        nn.Embedding(6, 3),
        nn.EmbeddingBag(6, 3),
        nn.EmbeddingBag(6, 3, mode="max"),
        nn.EmbeddingBag(6, 3, mode="mean", padding_idx=2),
    ),
    "ids",
)
