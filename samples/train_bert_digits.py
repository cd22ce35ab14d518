"""Train a small BERT classifier on the digits' pixels as words, and save it as a Hugging Face folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from digits_data import BRIGHTEST, LabelledImages, load_split
from training_torch import BATCH_SIZE, LEARNING_RATE, make_deterministic

os.environ["HF_HUB_OFFLINE"] = "1"

from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

FOLDER = Path(__file__).resolve().parent / "bert_digits"
EPOCHS = 40
LEAST_ACCURACY = 0.9

PAD, CLS, SEP = 0, 2, 3
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LEVELS = 7  # of brightness, that words tell apart
WORDS = (*SPECIAL, *(f"{left}{right}" for left in range(LEVELS) for right in range(LEVELS)))
LENGTH = 40  # [CLS], the upper half, [SEP], the lower half, [SEP], and padding


def tokens(data: LabelledImages) -> dict[str, Tensor]:
    """Write images as pairs of texts, upper and lower half: int64 [count,40] each, named as tokenizers name them.

    Two neighbours of a row make one word.
    """
    levels = (
        torch.from_numpy(data.ids).mul(LEVELS - 1).div(BRIGHTEST, rounding_mode="floor").reshape(len(data.ids), -1, 2)
    )
    words = levels[..., 0] * LEVELS + levels[..., 1] + len(SPECIAL)
    upper, lower = words.chunk(2, dim=1)
    count = len(upper)
    separator = torch.full((count, 1), SEP)
    text = torch.cat([torch.full((count, 1), CLS), upper, separator, lower, separator], dim=1)
    padding = (0, LENGTH - text.shape[1])
    second = torch.zeros_like(text)
    second[:, upper.shape[1] + 2 :] = 1
    pad = torch.nn.functional.pad
    return {
        "input_ids": pad(text, padding, value=PAD),
        "attention_mask": pad(torch.ones_like(text), padding),
        "token_type_ids": pad(second, padding),
    }


def network() -> BertForSequenceClassification:
    """Build an untrained classifier of ten digits."""
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        initializer_range=0.1,  # wide, for so narrow a network
        num_labels=10,
    )
    return BertForSequenceClassification(config)


def train(model: BertForSequenceClassification, data: LabelledImages) -> None:
    """Train in place with Adam and leave the model in evaluation mode."""
    inputs, digits = tokens(data), torch.from_numpy(data.labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    model.train()
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(digits)).split(BATCH_SIZE):
            optimizer.zero_grad()
            logits = model(**{name: tensor[chosen] for name, tensor in inputs.items()}).logits
            cross_entropy(logits, digits[chosen]).backward()
            optimizer.step()
    model.eval()


def main() -> None:
    learn, test = load_split()
    make_deterministic()
    model = network()
    train(model, learn)
    with torch.inference_mode():
        accuracy = test.accuracy(model(**tokens(test)).logits.numpy())
    print(f"bert_digits (torch): test accuracy {accuracy:.4f}")
    if accuracy <= LEAST_ACCURACY:
        sys.exit(f"bert_digits must be more accurate than {LEAST_ACCURACY}; it was not saved")
    model.save_pretrained(FOLDER)
    BertTokenizer(vocab={word: row for row, word in enumerate(WORDS)}).save_pretrained(FOLDER)


if __name__ == "__main__":
    main()
