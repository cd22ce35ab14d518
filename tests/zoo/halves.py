"""Which models the bounds of `validators/tolerance.py` are held against, in two halves."""

from __future__ import annotations

from dataclasses import dataclass

#: Models that a bound was set with, by name in tolerance.py or docs/parity.md or as one of the precision bench; and
#: models that were used for none. Bounds may be moved for the sake of the first only.
CALIBRATION, HELD_OUT = "calibration", "held out"

FORMATS = ("tflite", "onnx", "torchscript")

FP32, FP16, INT8, DYNAMIC = "fp32", "fp16", "int8", "int8-dynamic"


@dataclass(frozen=True, slots=True)
class Subject:
    """One model of the zoo, the half it is in, and the precisions its exports are made at."""

    name: str
    half: str
    family: str
    precisions: tuple[str, ...] = (FP32,)


def used(name: str, family: str, *precisions: str) -> Subject:
    return Subject(name, CALIBRATION, family, (FP32, *precisions))


def unused(name: str, family: str, *precisions: str) -> Subject:
    return Subject(name, HELD_OUT, family, (FP32, *precisions))


#: The calibration half first; of each the quick ones first, so that `--minutes` leaves out what takes long.
SUBJECTS = (
    used("torch/hand_block", "attention block", FP16, DYNAMIC),
    used("torch/hand_style", "style transfer, instance normalisation"),
    used("torch/hand_fourier", "Fourier transforms in place of attention"),
    used("keras/hand_lstm", "recurrent (LSTM)"),
    used("keras/hand_unet", "U-Net", INT8),
    used("torch/hand_pose", "pose heatmaps", INT8),
    used("torch/timm_mobilenetv3", "MobileNetV3", INT8),
    used("torch/hf_bert_classifier", "BERT", DYNAMIC),
    used("torch/hf_wav2vec2", "wav2vec2, speech"),
    unused("torch/hand_mixer", "mixer of a time series", DYNAMIC),
    unused("torch/hand_vae", "variational autoencoder"),
    unused("torch/hand_bigru", "recurrent (GRU, both ways)"),
    unused("torch/hand_conformer", "conformer, speech"),
    unused("torch/hand_wave", "1-D convolutions over a wave"),
    unused("torch/timm_test_vit", "vision transformer", FP16, DYNAMIC),
    unused("torch/timm_test_resnet", "ResNet", FP16, INT8),
    unused("torch/timm_test_efficientnet", "EfficientNet"),
    unused("torch/timm_test_convnext", "ConvNeXt"),
    unused("torch/timm_mobilenetv2_050", "MobileNetV2"),
    unused("torch/hf_electra", "ELECTRA, text"),
    unused("torch/hf_segformer", "SegFormer, segmentation"),
    unused("keras/hand_vit", "vision transformer, Keras"),
    unused("keras/hand_wavenet", "dilated convolutions, Keras"),
    unused("keras/hand_super_resolution", "super-resolution, Keras", INT8),
)

BY_NAME = {subject.name: subject for subject in SUBJECTS}
