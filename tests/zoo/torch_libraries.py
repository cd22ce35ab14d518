"""Architectures of timm, torchvision and transformers, in their smallest sizes; random, calibrated weights."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import torch
from places import PACKAGES
from torch import Tensor, nn
from torch_models import SMALL_TEXT, images, ready, timm_model

#: Sizes of a tiny transformer, as most configurations of transformers name them.
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}

__all__ = ["hf", "timm_model", "torchvision_model"]


def torchvision_model(name: str, size: int, **options: object) -> nn.Module:
    """Build one of torchvision's architectures, whose compiled operators no model here calls."""
    # NOTE: Why declared: torchvision has no build for every PyTorch, and without its binary its import looks for these.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    sys.path.append(str(PACKAGES))
    import torchvision

    return ready(lambda: torchvision.models.get_model(name, weights=None, **options), images(size))


def hf(name: str) -> nn.Module:
    """Build one of transformers' architectures by the name of its function here."""
    return globals()[name]()


def lively(build: Callable[[], nn.Module], *batch: Tensor) -> nn.Module:
    """Make ready what `build` gives, with matrices drawn by their width.

    transformers draws all of them with a deviation of 0.02, which leaves next to nothing of the input at these widths.
    """

    def drawn() -> nn.Module:
        module = build()
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.dim() > 1:
                    parameter.copy_(torch.randn_like(parameter) / math.sqrt(parameter[0].numel()))
        return module

    return ready(drawn, *batch)


def ids(*shape: int) -> Tensor:
    """Draw tokens."""
    return torch.randint(3, 120, shape)


def roberta() -> nn.Module:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = RobertaConfig(**TINY, vocab_size=120, max_position_embeddings=64, num_labels=3)
    return lively(lambda: RobertaForSequenceClassification(config), ids(4, 16))


def albert() -> nn.Module:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    config = AlbertConfig(**TINY, **SMALL_TEXT, embedding_size=16, num_labels=3)
    return lively(lambda: AlbertForSequenceClassification(config), ids(4, 16))


def mobilebert() -> nn.Module:
    from transformers import MobileBertConfig, MobileBertForSequenceClassification

    config = MobileBertConfig(
        **TINY, **SMALL_TEXT, embedding_size=16, intra_bottleneck_size=16, num_feedforward_networks=2, num_labels=3
    )
    return lively(lambda: MobileBertForSequenceClassification(config), ids(4, 16))


def electra() -> nn.Module:
    from transformers import ElectraConfig, ElectraForTokenClassification

    config = ElectraConfig(**TINY, **SMALL_TEXT, embedding_size=16, num_labels=4)
    return lively(lambda: ElectraForTokenClassification(config), ids(4, 16))


def bert_classifier() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(**TINY, **SMALL_TEXT, num_labels=3)
    return lively(lambda: BertForSequenceClassification(config), ids(4, 16))


def distilbert_answers() -> nn.Module:
    from transformers import DistilBertConfig, DistilBertForQuestionAnswering

    config = DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, **SMALL_TEXT)
    return lively(lambda: DistilBertForQuestionAnswering(config), ids(4, 16))


def t5_encoder() -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, vocab_size=120)
    return lively(lambda: T5EncoderModel(config), ids(4, 16))


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**TINY, **SMALL_TEXT, num_key_value_heads=1, use_cache=False)
    return lively(lambda: LlamaForCausalLM(config), ids(4, 16))


def deit() -> nn.Module:
    from transformers import DeiTConfig, DeiTForImageClassification

    config = DeiTConfig(**TINY, image_size=32, patch_size=8, num_labels=5)
    return lively(lambda: DeiTForImageClassification(config), images(32))


def swin() -> nn.Module:
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(
        image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 2], window_size=4, num_labels=5
    )
    return lively(lambda: SwinForImageClassification(config), images(32))


def dinov2() -> nn.Module:
    from transformers import Dinov2Config, Dinov2ForImageClassification

    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, num_labels=5
    )
    return lively(lambda: Dinov2ForImageClassification(config), images(28))


def segformer() -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[16, 32], patch_sizes=[7, 3],
        strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=24, num_labels=4,
    )  # fmt: skip
    return lively(lambda: SegformerForSemanticSegmentation(config), images(32))


def yolos() -> nn.Module:
    from transformers import YolosConfig, YolosForObjectDetection

    config = YolosConfig(**TINY, image_size=[32, 32], patch_size=8, num_detection_tokens=6, num_labels=4)
    return lively(lambda: YolosForObjectDetection(config), images(32))


def clip() -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    text = {**TINY, **SMALL_TEXT, "projection_dim": 16, "eos_token_id": 2}
    vision = {**TINY, "image_size": 32, "patch_size": 8, "projection_dim": 16}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    return lively(lambda: CLIPModel(config), ids(16, 16), images(32))


def wav2vec2() -> nn.Module:
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    config = Wav2Vec2Config(
        **TINY, conv_dim=[16, 16], conv_kernel=[10, 3], conv_stride=[5, 2], num_feat_extract_layers=2, vocab_size=20,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, classifier_proj_size=16, num_labels=4,
    )  # fmt: skip
    return lively(lambda: Wav2Vec2ForSequenceClassification(config), torch.randn(4, 1600))


def whisper_encoder() -> nn.Module:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64, num_mel_bins=16,
        max_source_positions=24, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=64, vocab_size=120,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return lively(lambda: WhisperEncoder(config), torch.randn(4, 16, 48))


def spectrogram() -> nn.Module:
    from transformers import ASTConfig, ASTForAudioClassification

    config = ASTConfig(**TINY, num_mel_bins=32, max_length=48, patch_size=16, num_labels=4)
    return lively(lambda: ASTForAudioClassification(config), torch.randn(4, 48, 32))


def resnet() -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", hidden_act="relu", num_labels=5
    )
    return lively(lambda: ResNetForImageClassification(config), images(32))
