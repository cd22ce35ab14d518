"""Torch networks of the zoo: hand-written hazards, timm and transformers; random, calibrated weights.

Every callable here takes no argument and returns a module in evaluation mode, so that `--architecture` can name it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the field's name for it

SEED = 11


class Named(nn.Module):
    """Inputs and outputs whose order is not the alphabet's: (zeta, alpha) -> {second, first}."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(12, 16)
        self.right = nn.Linear(5, 16)
        self.second = nn.Linear(32, 3)
        self.first = nn.Linear(32, 7)

    def forward(self, zeta: Tensor, alpha: Tensor) -> dict[str, Tensor]:
        joined = torch.cat([torch.tanh(self.left(zeta)), torch.relu(self.right(alpha))], dim=1)
        return {"second": self.second(joined), "first": self.first(joined)}


class Nested(nn.Module):
    """A tuple whose second item is a tuple: (features, (mean, deviation))."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 16)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        features = F.silu(self.layer(x))
        return features, (features.mean(dim=1), features.std(dim=1))


class TopK(nn.Module):
    """Integer outputs: the classes of the highest scores, the scores themselves, and the best class."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 12)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = self.layer(x)
        top = scores.topk(3, dim=1)
        return top.indices, top.values, scores.argmax(dim=1)


class Masked(nn.Module):
    """A boolean mask as input: the mean over the steps it keeps, in a sequence of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 10)

    def forward(self, steps: Tensor, keep: Tensor) -> Tensor:
        weight = keep.unsqueeze(-1).to(steps.dtype)
        states = torch.tanh(self.layer(steps)).masked_fill(~keep.unsqueeze(-1), 0.0)
        return states.sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)


class Block(nn.Module):
    """A transformer block by hand: GELU, LayerNorm, scaled dot-product attention, in a sequence of any length."""

    def __init__(self, width: int = 24, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, length, width = tokens.shape
        parts = self.project(self.before(tokens)).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.merge(mixed.transpose(1, 2).reshape(batch, length, width))
        return tokens + self.narrow(F.gelu(self.widen(self.after(tokens))))


class BiGRU(nn.Module):
    """A bidirectional GRU over a fixed number of steps; all states and the last hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 8, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 4)

    def forward(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        states, last = self.gru(steps)
        return self.head(states), last[-1]


class Wave(nn.Module):
    """Strided and dilated one-dimensional convolutions, as in keyword spotting."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 8, 9, stride=4, padding=4), nn.BatchNorm1d(8), nn.ReLU(),
            nn.Conv1d(8, 16, 5, dilation=2, padding=4, groups=4), nn.BatchNorm1d(16), nn.Hardswish(),
            nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(64, 6),
        )  # fmt: skip

    def forward(self, wave: Tensor) -> Tensor:
        return self.layers(wave)


class Decoder(nn.Module):
    """Transposed convolutions with output padding, as a generator has them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(10, 16, 4), nn.BatchNorm2d(16), nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1), nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, noise: Tensor) -> Tensor:
        return self.layers(noise[:, :, None, None])


class Warp(nn.Module):
    """Sampling an image on a grid that depends on it (a spatial transformer)."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Linear(3 * 8 * 8, 6)

    def forward(self, image: Tensor) -> Tensor:
        small = F.adaptive_avg_pool2d(image, (8, 8)).flatten(1)
        shift = 0.2 * torch.tanh(self.locate(small)).reshape(-1, 2, 3)
        theta = shift + torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        grid = F.affine_grid(theta, [image.shape[0], 3, 24, 24], align_corners=False)
        return F.grid_sample(image, grid, align_corners=False)


class Segmenter(nn.Module):
    """Skip connections, bilinear upsampling and normalisation by group, on images of any height and width."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.down, self.up = nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Conv2d(24, 4, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        fine = F.relu(self.norm(self.first(image)))
        coarse = F.relu(self.down(fine))
        coarse = F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=False)
        return self.up(torch.cat([fine, coarse], dim=1))


class SuperResolution(nn.Module):
    """Pixel shuffling and instance normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 5, padding=2), nn.InstanceNorm2d(8, affine=True)
        self.last = nn.Conv2d(8, 3 * 4, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return F.pixel_shuffle(self.last(F.prelu(self.norm(self.first(image)), torch.tensor([0.3]))), 2)


class Video(nn.Module):
    """Three-dimensional convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2),
            nn.Conv3d(6, 8, (1, 3, 3), stride=(1, 2, 2)), nn.ELU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
            nn.Linear(8, 5),
        )  # fmt: skip

    def forward(self, clip: Tensor) -> Tensor:
        return self.layers(clip)


class Recommender(nn.Module):
    """Embeddings of two integer inputs beside a dense one, and a scalar per row."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(50, 8), nn.EmbeddingBag(30, 8, mode="mean")
        self.dense = nn.Linear(8 + 8 + 4, 1)

    def forward(self, user: Tensor, items: Tensor, context: Tensor) -> Tensor:
        joined = torch.cat([self.user(user), self.item(items), context], dim=1)
        return torch.sigmoid(self.dense(joined)).squeeze(1)


class Branching(nn.Module):
    """A branch and a loop that depend on the data; tracing bakes both in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.mean() > 0):  # noqa: SIM108  the branch is what is tested
            x = self.layer(x)
        else:
            x = torch.sin(x)
        for _ in range(int(x.shape[0])):
            x = x * 0.9 + 0.1
        return x


class Ops(nn.Module):
    """Operators converters tend to miss: cumulative sums, gather, einsum, roll, erf, log-sum-exp, integer division."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(4, 6, 6) / 3)

    def forward(self, x: Tensor, ids: Tensor) -> dict[str, Tensor]:
        mixed = torch.einsum("bi,hij->bhj", x, self.matrix)
        chosen = torch.gather(x, 1, ids)
        return {
            "sums": torch.cumsum(x, dim=1),
            "mixed": torch.logsumexp(mixed, dim=1),
            "chosen": torch.where(chosen > 0, torch.erf(chosen), chosen.roll(1, dims=1)),
            "halves": torch.div(ids, 2, rounding_mode="floor"),
            "norms": torch.linalg.vector_norm(x, dim=1, keepdim=True),
        }


def hand_named() -> nn.Module:
    return ready(Named, torch.randn(64, 12), torch.randn(64, 5))


def hand_nested() -> nn.Module:
    return ready(Nested, torch.randn(64, 12))


def hand_topk() -> nn.Module:
    return ready(TopK, torch.randn(64, 20))


def hand_masked() -> nn.Module:
    return ready(Masked, torch.randn(8, 16, 6), torch.rand(8, 16) > 0.5)


def hand_block() -> nn.Module:
    return ready(Block, torch.randn(8, 16, 24))


def hand_bigru() -> nn.Module:
    return ready(BiGRU, torch.randn(8, 10, 6))


def hand_wave() -> nn.Module:
    return ready(Wave, torch.randn(32, 1, 512))


def hand_decoder() -> nn.Module:
    return ready(Decoder, torch.randn(32, 10))


def hand_warp() -> nn.Module:
    return ready(Warp, torch.randn(8, 3, 32, 32))


def hand_segmenter() -> nn.Module:
    return ready(Segmenter, torch.randn(8, 3, 32, 32))


def hand_super_resolution() -> nn.Module:
    return ready(SuperResolution, torch.randn(8, 3, 24, 24))


def hand_video() -> nn.Module:
    return ready(Video, torch.randn(8, 1, 8, 16, 16))


def hand_recommender() -> nn.Module:
    return ready(Recommender, torch.randint(50, (16,)), torch.randint(30, (16, 5)), torch.randn(16, 4))


def hand_branching() -> nn.Module:
    return ready(Branching, torch.randn(4, 8))


def hand_ops() -> nn.Module:
    return ready(Ops, torch.randn(16, 6), torch.randint(6, (16, 3)))


def timm_model(name: str, size: int, **options: object) -> nn.Module:
    """Build one of timm's architectures for ten classes."""
    stand_in_for_torchvision()
    import timm

    return ready(lambda: timm.create_model(name, pretrained=False, num_classes=10, **options), images(size))


def timm_mobilenetv3() -> nn.Module:
    return timm_model("mobilenetv3_small_050", 64)


def timm_resnet18() -> nn.Module:
    return timm_model("resnet18", 64)


def timm_efficientnet_lite0() -> nn.Module:
    return timm_model("efficientnet_lite0", 64)


def timm_convnext_atto() -> nn.Module:
    return timm_model("convnext_atto", 64)


def timm_vit_tiny() -> nn.Module:
    return timm_model("vit_tiny_patch16_224", 64, img_size=64)


def timm_regnet() -> nn.Module:
    return timm_model("regnety_002", 64)


SMALL_TEXT = {"vocab_size": 120, "max_position_embeddings": 64}


def hf_bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, num_labels=3, **SMALL_TEXT
    )
    ids = torch.randint(120, (4, 16))
    return ready(lambda: BertForSequenceClassification(config), ids, torch.ones_like(ids), torch.zeros_like(ids))


def hf_distilbert() -> nn.Module:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(dim=48, n_layers=2, n_heads=4, hidden_dim=96, num_labels=3, **SMALL_TEXT)
    ids = torch.randint(120, (4, 16))
    return ready(lambda: DistilBertForSequenceClassification(config), ids, torch.ones_like(ids))


def hf_vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32, patch_size=8,
        num_labels=5,
    )  # fmt: skip
    return ready(lambda: ViTForImageClassification(config), images(32))


def hf_gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=48, n_layer=2, n_head=4, vocab_size=120, n_positions=64, use_cache=False)
    return ready(lambda: GPT2LMHeadModel(config), torch.randint(120, (4, 16)))


def images(size: int) -> Tensor:
    """Draw sixteen images of noise and gradients."""
    ramp = torch.linspace(-1, 1, size)
    return torch.randn(16, 3, size, size) + torch.randn(16, 3, 1, 1) * ramp + torch.randn(16, 3, 1, 1)


def ready(build: object, *batch: Tensor) -> nn.Module:
    """Build a module with seeded weights whose outputs vary with the input: constants drawn, statistics calibrated."""
    torch.manual_seed(SEED)
    module = build()  # type: ignore[operator]
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            if parameter.numel() > 1 and float(parameter.std()) < 1e-4:
                parameter.copy_(drawn(parameter))
            elif name.endswith(("head.weight", "classifier.weight")):
                parameter.copy_(torch.randn_like(parameter) / math.sqrt(parameter.shape[-1]))
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    module.train()
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            module(*batch)
    return module.eval()


def drawn(parameter: Tensor) -> Tensor:
    """Draw what a constant parameter is replaced by: scales near one, offsets near zero, matrices by their width."""
    if parameter.dim() > 1 and parameter.shape[-1] > 1:
        return torch.randn_like(parameter) / math.sqrt(parameter[0].numel())
    if float(parameter.flatten()[0]) == 0.0:
        return 0.2 * torch.randn_like(parameter)
    return 0.5 + torch.rand_like(parameter)


def stand_in_for_torchvision() -> None:
    """Let timm be imported where there is no torchvision, whose transforms and operators no model here uses."""
    import importlib.abc
    import importlib.machinery
    import importlib.util
    import sys
    import types

    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision"):
        return

    class Anything:
        def __init__(self, *_: object, **__: object) -> None:
            raise NotImplementedError("this is a stand-in for torchvision")

    class Module(types.ModuleType):
        def __getattr__(self, name: str) -> object:
            if name.startswith("__"):
                raise AttributeError(name)
            modes = ("NEAREST", "LANCZOS", "BILINEAR", "BICUBIC", "BOX", "HAMMING")  # as Pillow numbers them
            return type(name, (Anything,), {mode: number for number, mode in enumerate(modes)})

    class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name: str, path: object, target: object = None) -> object:
            if name.partition(".")[0] != "torchvision":
                return None
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

        def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
            return Module(spec.name)

        def exec_module(self, module: types.ModuleType) -> None:
            module.__path__ = []

    sys.meta_path.append(Finder())
