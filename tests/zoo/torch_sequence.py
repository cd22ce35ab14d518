"""Torch networks of the zoo over sound, text, series and graphs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the field's name for it
from torch_models import ready


class Spectral(nn.Module):
    """Keyword spotting with its own front-end: a short-time Fourier transform, mel bands, their logarithm."""

    def __init__(self, size: int = 64, hop: int = 32, bands: int = 10) -> None:
        super().__init__()
        self.size, self.hop = size, hop
        self.register_buffer("window", torch.hann_window(size))
        self.register_buffer("bands", torch.rand(bands, size // 2 + 1))
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, groups=8), nn.Conv2d(8, 12, 1), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(12, 4)

    def forward(self, wave: Tensor) -> Tensor:
        spectrum = torch.stft(wave, self.size, self.hop, window=self.window, center=True, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        levels = torch.log(self.bands @ power + 1e-3)
        return self.head(self.layers(levels.unsqueeze(1)).mean(dim=(2, 3)))


class Separator(nn.Module):
    """Conv-TasNet in small: a learnt transform, gated masks for two speakers, and the way back."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.encode = nn.Conv1d(1, width, 16, stride=8, bias=False)
        self.norm = nn.GroupNorm(1, width)
        self.mask = nn.Sequential(
            nn.Conv1d(width, width, 3, padding=2, dilation=2, groups=width), nn.PReLU(),
            nn.Conv1d(width, 2 * width, 1), nn.Sigmoid(),
        )  # fmt: skip
        self.decode = nn.ConvTranspose1d(width, 1, 16, stride=8, bias=False)

    def forward(self, wave: Tensor) -> Tensor:
        code = F.relu(self.encode(wave))
        masks = self.mask(self.norm(code)).unflatten(1, (2, -1))
        apart = (masks * code.unsqueeze(1)).flatten(0, 1)
        return self.decode(apart).unflatten(0, (-1, 2)).squeeze(2)


class Causal(nn.Module):
    """WaveNet in small: causal dilated convolutions, gates, skip connections."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.enter = nn.Conv1d(1, width, 1)
        self.layers = nn.ModuleList(nn.Conv1d(width, 2 * width, 2, dilation=2**depth) for depth in range(4))
        self.merge = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(4))
        self.leave = nn.Conv1d(width, 8, 1)

    def forward(self, wave: Tensor) -> Tensor:
        x = self.enter(wave)
        kept = torch.zeros_like(x)
        for depth, (layer, merge) in enumerate(zip(self.layers, self.merge, strict=True)):
            gate, value = layer(F.pad(x, (2**depth, 0))).chunk(2, dim=1)
            part = merge(torch.sigmoid(gate) * torch.tanh(value))
            x, kept = x + part, kept + part
        return F.log_softmax(self.leave(F.relu(kept)), dim=1)


class Conformer(nn.Module):
    """A conformer block: half-step feed-forward, attention, gated depthwise convolution."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.feed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 48), nn.SiLU(), nn.Linear(48, width))
        self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 4, batch_first=True)
        self.before, self.point = nn.LayerNorm(width), nn.Conv1d(width, 2 * width, 1)
        self.depth = nn.Sequential(
            nn.Conv1d(width, width, 7, padding=3, groups=width), nn.BatchNorm1d(width), nn.SiLU(),
            nn.Conv1d(width, width, 1),
        )  # fmt: skip
        self.after = nn.LayerNorm(width)

    def forward(self, frames: Tensor) -> Tensor:
        x = frames + 0.5 * self.feed(frames)
        y = self.norm(x)
        x = x + self.attention(y, y, y)[0]
        y = F.glu(self.point(self.before(x).transpose(1, 2)), dim=1)
        return self.after(x + self.depth(y).transpose(1, 2))


class Stacked(nn.Module):
    """A stacked LSTM over many steps; the last state decides."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 12, num_layers=2, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, series: Tensor) -> Tensor:
        states, _ = self.lstm(series)
        return self.head(states[:, -1])


class Streaming(nn.Module):
    """One step of an LSTM whose state goes in and comes out, as on a device that listens all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(8, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, frame: Tensor, hidden: Tensor, cell: Tensor) -> dict[str, Tensor]:
        hidden, cell = self.cell(frame, (hidden, cell))
        return {"scores": self.head(hidden), "hidden_out": hidden, "cell_out": cell}


class Reader(nn.Module):
    """Reading a line of text: convolutions, a bidirectional LSTM over the columns, scores per column."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d((2, 1)),
        )  # fmt: skip
        self.lstm = nn.LSTM(16 * 4, 10, bidirectional=True, batch_first=True)
        self.head = nn.Linear(20, 7)

    def forward(self, line: Tensor) -> Tensor:
        columns = self.look(line).flatten(1, 2).transpose(1, 2)
        return self.head(self.lstm(columns)[0]).log_softmax(dim=2)


class Encoder(nn.Module):
    """PyTorch's own transformer encoder over embedded tokens, padding masked out."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, width)
        layer = nn.TransformerEncoderLayer(width, 3, 48, batch_first=True, activation="gelu", norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 5)

    def forward(self, ids: Tensor) -> Tensor:
        states = self.layers(self.embed(ids), src_key_padding_mask=ids == 0)
        return self.head(states[:, 0])


class Translator(nn.Module):
    """Encoder and decoder with a causal mask and attention across; logits of the next tokens."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(30, width), nn.Embedding(35, width)
        self.transformer = nn.Transformer(width, 2, 1, 1, 48, batch_first=True)
        self.head = nn.Linear(width, 35)
        self.register_buffer("mask", torch.triu(torch.full((8, 8), float("-inf")), diagonal=1))

    def forward(self, text: Tensor, so_far: Tensor) -> Tensor:
        states = self.transformer(self.source(text), self.target(so_far), tgt_mask=self.mask)
        return self.head(states)


class Rotary(nn.Module):
    """A decoder block of today: RMS normalisation, rotary positions, grouped queries, a gated feed-forward."""

    def __init__(self, width: int = 32, heads: int = 4, groups: int = 2) -> None:
        super().__init__()
        self.heads, self.groups, self.each = heads, groups, width // heads
        self.embed = nn.Embedding(50, width)
        self.before, self.after = nn.RMSNorm(width), nn.RMSNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.keys = nn.Linear(width, 2 * groups * self.each, bias=False)
        self.merge = nn.Linear(width, width, bias=False)
        self.gate, self.up, self.down = nn.Linear(width, 64), nn.Linear(width, 64), nn.Linear(64, width)
        rates = 100.0 ** (-torch.arange(0, self.each, 2) / self.each)
        angles = torch.arange(12)[:, None] * rates
        self.register_buffer("cos", torch.cat([angles.cos(), angles.cos()], dim=1))
        self.register_buffer("sin", torch.cat([angles.sin(), angles.sin()], dim=1))

    def turned(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat([-right, left], dim=-1) * self.sin

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        y = self.before(x)
        query = self.query(y).unflatten(2, (self.heads, self.each)).transpose(1, 2)
        key, value = self.keys(y).unflatten(2, (2 * self.groups, self.each)).transpose(1, 2).chunk(2, dim=1)
        mixed = F.scaled_dot_product_attention(
            self.turned(query), self.turned(key), value, is_causal=True, enable_gqa=True
        )
        x = x + self.merge(mixed.transpose(1, 2).flatten(2))
        y = self.after(x)
        return (x + self.down(F.silu(self.gate(y)) * self.up(y))) @ self.embed.weight.T


class Fourier(nn.Module):
    """Tokens mixed by a discrete Fourier transform in two dimensions (FNet)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 32), nn.GELU(approximate="tanh"), nn.Linear(32, width))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(tokens + torch.fft.fft2(tokens).real)
        return x + self.feed(x)


class Messages(nn.Module):
    """A graph network: messages along the edges, gathered, added up where they arrive, and divided by their number."""

    def __init__(self) -> None:
        super().__init__()
        self.send, self.keep = nn.Linear(6, 12), nn.Linear(6, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, nodes: Tensor, start: Tensor, end: Tensor) -> Tensor:
        messages = self.send(nodes).index_select(0, start)
        zero = torch.zeros(nodes.shape[0], 12, dtype=nodes.dtype)
        total = zero.index_add(0, end, messages)
        count = torch.zeros(nodes.shape[0], dtype=nodes.dtype).scatter_add(0, end, torch.ones_like(messages[:, 0]))
        return self.head(F.relu(self.keep(nodes) + total / count.clamp(min=1.0)[:, None]))


class Experts(nn.Module):
    """A mixture of experts: the two best of four by top-k, weighed by a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.choose = nn.Linear(10, 4)
        self.experts = nn.Parameter(torch.randn(4, 10, 6) / math.sqrt(10))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        best, which = self.choose(x).topk(2, dim=1)
        every = torch.einsum("bi,eio->beo", x, self.experts)
        chosen = every.gather(1, which.unsqueeze(-1).expand(-1, -1, 6))
        return (best.softmax(dim=1).unsqueeze(-1) * chosen).sum(dim=1), which


class Tagger(nn.Module):
    """64-bit tokens in, 64-bit labels out, a mask between."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 16, padding_idx=0)
        self.gru = nn.GRU(16, 12, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.head(self.gru(self.embed(ids))[0])
        labels = scores.argmax(dim=2)
        return torch.where(ids == 0, torch.zeros_like(labels), labels), scores.softmax(dim=2)


class Mixer(nn.Module):
    """A series predicted by mixing over time and over channels; mean and deviation taken out and put back."""

    def __init__(self, length: int = 24, width: int = 4) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(length, length), nn.ReLU())
        self.channel = nn.Sequential(nn.Linear(width, 12), nn.ReLU(), nn.Linear(12, width))
        self.ahead = nn.Linear(length, 6)

    def forward(self, series: Tensor) -> Tensor:
        mean, spread = series.mean(dim=1, keepdim=True), series.std(dim=1, keepdim=True) + 1e-5
        x = (series - mean) / spread
        x = x + self.time(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.channel(x)
        return self.ahead(x.transpose(1, 2)).transpose(1, 2) * spread + mean


class Hyper(nn.Module):
    """A network whose sizes are hyper-parameters, as a training framework stores them in its checkpoints."""

    def __init__(self, width: int, depth: int, classes: int = 3) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Linear(9, width), nn.Tanh()]
        for _ in range(depth):
            parts += [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ELU()]
        self.layers = nn.Sequential(*parts, nn.Linear(width, classes))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


def hand_stft() -> nn.Module:
    return ready(Spectral, torch.randn(16, 512))


def hand_separator() -> nn.Module:
    return ready(Separator, torch.randn(8, 1, 256))


def hand_wavenet() -> nn.Module:
    return ready(Causal, torch.randn(8, 1, 64))


def hand_conformer() -> nn.Module:
    return ready(Conformer, torch.randn(8, 20, 24))


def hand_lstm() -> nn.Module:
    return ready(Stacked, torch.randn(8, 30, 5))


def hand_streaming() -> nn.Module:
    return ready(Streaming, torch.randn(8, 8), torch.randn(8, 12), torch.randn(8, 12))


def hand_reader() -> nn.Module:
    return ready(Reader, torch.randn(8, 1, 16, 32))


def hand_encoder() -> nn.Module:
    return ready(Encoder, torch.randint(1, 40, (8, 12)))


def hand_translator() -> nn.Module:
    return ready(Translator, torch.randint(30, (4, 10)), torch.randint(35, (4, 8)))


def hand_rotary() -> nn.Module:
    return ready(Rotary, torch.randint(50, (4, 12)))


def hand_fourier() -> nn.Module:
    return ready(Fourier, torch.randn(4, 16, 16))


def hand_graph() -> nn.Module:
    return ready(Messages, torch.randn(20, 6), torch.randint(20, (40,)), torch.randint(20, (40,)))


def hand_experts() -> nn.Module:
    return ready(Experts, torch.randn(16, 10))


def hand_tagger() -> nn.Module:
    return ready(Tagger, torch.randint(60, (8, 10)))


def hand_mixer() -> nn.Module:
    return ready(Mixer, torch.randn(8, 24, 4))


def hand_hyper(width: int = 14, depth: int = 2) -> nn.Module:
    return ready(lambda: Hyper(width, depth), torch.randn(16, 9))
