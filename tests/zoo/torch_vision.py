"""Torch networks of the zoo that look at images, clips and points: detection, generation, matching, segmentation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the field's name for it
from torch_models import images, ready


def unit(inputs: int, outputs: int, stride: int = 1, **options: int) -> nn.Sequential:
    """Convolve, normalise, and cut off below zero."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=options.pop("padding", 1), bias=False, **options),  # type: ignore[arg-type]
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Detector(nn.Module):
    """A single-shot detector: boxes and class scores from two scales, joined, as a dictionary."""

    def __init__(self, classes: int = 4, anchors: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(unit(3, 8, 2), unit(8, 16, 2))
        self.deeper = unit(16, 24, 2)
        self.classes = classes
        self.boxes = nn.ModuleList(nn.Conv2d(width, anchors * 4, 3, padding=1) for width in (16, 24))
        self.scores = nn.ModuleList(nn.Conv2d(width, anchors * classes, 3, padding=1) for width in (16, 24))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        fine = self.stem(image)
        scales = (fine, self.deeper(fine))
        boxes = [
            head(x).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4))
            for head, x in zip(self.boxes, scales, strict=True)
        ]
        scores = [
            head(x).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, self.classes))
            for head, x in zip(self.scores, scales, strict=True)
        ]
        return {"scores": torch.cat(scores, dim=1).sigmoid(), "boxes": torch.cat(boxes, dim=1)}


class Decoded(nn.Module):
    """A detector without anchors whose boxes are decoded and whose best eight are picked out by gather."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(unit(3, 8, 2), unit(8, 16, 2))
        self.head = nn.Conv2d(16, 4 + 3, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.head(self.trunk(image)).flatten(2).transpose(1, 2)
        best, classes = found[..., 4:].sigmoid().max(dim=2)
        scores, places = best.topk(8, dim=1)
        sides = found[..., :4].exp()
        boxes = torch.cat([-sides[..., :2], sides[..., 2:]], dim=2)
        chosen = boxes.gather(1, places.unsqueeze(-1).expand(-1, -1, 4))
        return chosen, scores, classes.gather(1, places)


class Generator(nn.Module):
    """A DCGAN generator: noise to an image through strided transposed convolutions."""

    def __init__(self, noise: int = 16, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(noise, 4 * width, 4, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh(),
        )  # fmt: skip

    def forward(self, noise: Tensor) -> Tensor:
        return self.layers(noise.unflatten(1, (-1, 1, 1)))


class Autoencoder(nn.Module):
    """A variational autoencoder: the picture of the mean, the mean, and the logarithm of the variance."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(unit(1, 8, 2), unit(8, 16, 2), nn.Flatten())
        self.mean, self.spread = nn.Linear(16 * 49, 6), nn.Linear(16 * 49, 6)
        self.widen = nn.Linear(6, 16 * 49)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1), nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 3, 2, 1, output_padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code = self.encoder(image)
        mean = self.mean(code)
        return self.decoder(self.widen(mean).unflatten(1, (16, 7, 7))), mean, self.spread(code)


class Attended(nn.Module):
    """A residual block with group normalisation, a step's embedding, and attention over all places."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.before, self.after = nn.GroupNorm(4, width), nn.GroupNorm(4, width)
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.step = nn.Linear(steps, width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        h = self.first(F.silu(self.before(x))) + self.step(step)[:, :, None, None]
        x = x + self.second(F.silu(self.after(h)))
        places = x.flatten(2).transpose(1, 2)
        mixed, _ = self.attention(places, places, places, need_weights=False)
        return x + mixed.transpose(1, 2).reshape(x.shape)


class Denoiser(nn.Module):
    """A small diffusion U-Net: the noise in an image, given the step it was taken at."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU())
        self.enter, self.down = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 3, 2, 1)
        self.middle = Attended(width, 2 * width)
        self.leave = nn.Conv2d(2 * width, 3, 3, padding=1)

    def forward(self, image: Tensor, step: Tensor) -> Tensor:
        rates = torch.exp(torch.arange(self.width // 2) * (-math.log(1000.0) / (self.width // 2)))
        angles = step.to(image.dtype)[:, None] * rates.to(image.dtype)
        embedded = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        fine = self.enter(image)
        coarse = self.middle(self.down(fine), embedded)
        return self.leave(torch.cat([fine, F.interpolate(coarse, scale_factor=2.0, mode="nearest")], dim=1))


class DepthwiseVideo(nn.Module):
    """Three-dimensional convolutions of each channel by itself, and in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(2, 8, 1), nn.Conv3d(8, 8, 3, padding=1, groups=8), nn.BatchNorm3d(8), nn.ReLU(),
            nn.Conv3d(8, 12, (3, 3, 3), stride=2, padding=1, groups=4), nn.Hardswish(),
        )  # fmt: skip
        self.head = nn.Linear(12, 5)

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(self.layers(clip).mean(dim=(2, 3, 4)))


class Points(nn.Module):
    """PointNet: a cloud is turned by a matrix made from it, and the greatest feature of any point is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.turn = nn.Linear(16, 9)
        self.each = nn.Sequential(nn.Conv1d(3, 24, 1), nn.BatchNorm1d(24), nn.ReLU(), nn.Conv1d(24, 32, 1))
        self.head = nn.Linear(32, 6)

    def forward(self, points: Tensor) -> Tensor:
        seen = self.look(points.transpose(1, 2)).amax(dim=2)
        matrix = self.turn(seen).reshape(-1, 3, 3) + torch.eye(3)
        turned = torch.bmm(points, matrix)
        return self.head(self.each(turned.transpose(1, 2)).amax(dim=2))


class Siamese(nn.Module):
    """Two images through the same trunk; how alike they are."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            unit(3, 8, 2), unit(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 8)
        )

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return F.cosine_similarity(self.trunk(left), self.trunk(right), dim=1)


class Pose(nn.Module):
    """Heat maps, and the joints they are at as the mean of the places (soft argmax)."""

    def __init__(self, joints: int = 5) -> None:
        super().__init__()
        self.layers = nn.Sequential(unit(3, 12, 2), unit(12, 16), nn.Conv2d(16, joints, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        maps = self.layers(image)
        _, joints, height, width = maps.shape
        chance = (4 * maps).flatten(2).softmax(dim=2).reshape(-1, joints, height, width)
        ys, xs = torch.linspace(0, 1, height), torch.linspace(0, 1, width)
        x = (chance.sum(dim=2) * xs).sum(dim=2)
        y = (chance.sum(dim=3) * ys).sum(dim=2)
        return {"maps": maps, "joints": torch.stack([x, y], dim=2)}


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling with a pooled branch; the class of every pixel and its chance."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = unit(3, 12, 2)
        self.branches = nn.ModuleList(unit(12, 8, padding=rate, dilation=rate) for rate in (1, 2, 4))
        self.pooled, self.leave = nn.Conv2d(12, 8, 1), nn.Conv2d(32, 4, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.enter(image)
        pooled = F.relu(self.pooled(F.adaptive_avg_pool2d(x, 1))).expand(-1, -1, *x.shape[2:])
        joined = torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1)
        logits = F.interpolate(self.leave(joined), image.shape[2:], mode="bilinear", align_corners=False)
        return logits.argmax(dim=1), logits.softmax(dim=1).amax(dim=1)


class Camera(nn.Module):
    """Pixels as a camera gives them (bytes, channels last) are scaled inside the network."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([123.7, 116.3, 103.5]))
        self.layers = nn.Sequential(
            unit(3, 8, 2), unit(8, 12, 2), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(48, 4)
        )

    def forward(self, frame: Tensor) -> Tensor:
        scaled = (frame.to(torch.float32) - self.mean) / 58.0
        return self.layers(scaled.permute(0, 3, 1, 2))


class Style(nn.Module):
    """Style transfer: mirrored borders, instance normalisation, residual blocks, enlarging by nearest."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            nn.ReflectionPad2d(2), nn.Conv2d(3, 8, 5), nn.InstanceNorm2d(8, affine=True), nn.ReLU()
        )
        self.down, self.block = unit(8, 16, 2), nn.Sequential(unit(16, 16), nn.Conv2d(16, 16, 3, padding=1))
        self.leave = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"), nn.ReplicationPad2d(1), nn.Conv2d(16, 3, 3), nn.Tanh()
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.down(self.enter(image))
        return self.leave(x + self.block(x))


class Shuffled(nn.Module):
    """Channels split, shuffled and weighed by squeeze and excitation, as mobile networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.depthwise = unit(3, 16, 2), unit(8, 8, groups=8)
        self.squeeze = nn.Sequential(nn.Linear(16, 4), nn.ReLU6(), nn.Linear(4, 16), nn.Hardsigmoid())
        self.head = nn.Linear(16, 5)

    def forward(self, image: Tensor) -> Tensor:
        left, right = self.enter(image).chunk(2, dim=1)
        x = torch.cat([left, self.depthwise(right)], dim=1)
        x = F.channel_shuffle(x, 2)
        x = x * self.squeeze(x.mean(dim=(2, 3)))[:, :, None, None]
        return self.head(F.max_pool2d(x, 3, 2, 1, ceil_mode=True).mean(dim=(2, 3)))


def hand_ssd() -> nn.Module:
    return ready(Detector, images(32))


def hand_decoded() -> nn.Module:
    return ready(Decoded, images(32))


def hand_dcgan() -> nn.Module:
    return ready(Generator, torch.randn(32, 16))


def hand_vae() -> nn.Module:
    return ready(Autoencoder, torch.rand(16, 1, 28, 28))


def hand_diffusion() -> nn.Module:
    return ready(Denoiser, torch.randn(4, 3, 16, 16), torch.randint(1000, (4,)))


def hand_depthwise3d() -> nn.Module:
    return ready(DepthwiseVideo, torch.randn(8, 2, 6, 12, 12))


def hand_points() -> nn.Module:
    return ready(Points, torch.randn(16, 48, 3))


def hand_siamese() -> nn.Module:
    return ready(Siamese, images(24), images(24))


def hand_pose() -> nn.Module:
    return ready(Pose, images(32))


def hand_pyramid() -> nn.Module:
    return ready(Pyramid, images(32))


def hand_camera() -> nn.Module:
    return ready(Camera, torch.randint(256, (8, 32, 32, 3), dtype=torch.uint8))


def hand_style() -> nn.Module:
    return ready(Style, images(24))


def hand_shuffled() -> nn.Module:
    return ready(Shuffled, images(32))
