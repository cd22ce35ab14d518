"""The zoo: models edgeproof was not tuned for, each saved as a user would save it; no weight is downloaded."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

#: The formats each kind of source must lead to.
PAIRS = {
    **dict.fromkeys(("keras", "h5", "keras2_h5"), ("tflite", "onnx", "torchscript", "savedmodel")),
    **dict.fromkeys(("savedmodel", "keras2_savedmodel", "tf_module", "tf_hub"), ("tflite", "onnx", "torchscript")),
    **dict.fromkeys(
        ("exported", "scripted", "traced", "weights", "safetensors", "pickled", "lightning", "hugging_face"),
        ("tflite", "onnx", "torchscript", "savedmodel"),
    ),
    **dict.fromkeys(("onnx", "keras_onnx"), ("tflite", "onnx", "torchscript")),
    **dict.fromkeys(("tflite", "keras_tflite"), ("onnx",)),
}

TITLES = {
    "keras": "Keras `.keras`",
    "h5": "Keras `.h5`",
    "keras2_h5": "Keras 2 `.h5`",
    "savedmodel": "SavedModel of Keras 3",
    "keras2_savedmodel": "SavedModel of Keras 2",
    "tf_module": "SavedModel of a `tf.Module`",
    "tf_hub": "TF Hub `.tar.gz`",
    "exported": "ExportedProgram `.pt2`",
    "scripted": "TorchScript, scripted",
    "traced": "TorchScript, traced",
    "weights": "PyTorch weights with `--architecture`",
    "safetensors": "`.safetensors` with `--architecture`",
    "pickled": "pickled module with `--trust`",
    "lightning": "Lightning `.ckpt` with `--architecture`",
    "hugging_face": "Hugging Face folder",
    "onnx": "ONNX made by torch.onnx",
    "keras_onnx": "ONNX made by tf2onnx",
    "tflite": "TFLite made by litert-torch",
    "keras_tflite": "TFLite made by TFLiteConverter",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the zoo: what builds it, and how it is saved.

    `builder` is `module:callable`, called with `arguments` and `options`. `inputs` and `outputs` are written as
    `--input` takes them; Keras and TensorFlow models state their own, and only name a dimension or a range by them.
    """

    name: str
    saved: str  # a key of PAIRS
    builder: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    arguments: tuple[object, ...] = ()
    options: tuple[tuple[str, object], ...] = ()

    @property
    def file_name(self) -> str:
        """The name as the stem of a file."""
        return self.name.replace("/", "-")

    def matches(self, pattern: str) -> bool:
        """Whether a pattern of the shell fits the name, the part behind the slash, or that without its first word."""
        short = self.name.partition("/")[2]
        names = (self.name, short, short.partition("_")[2])
        return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def keras_entry(builder: str, *inputs: str, saved: str = "keras", module: str = "keras_models") -> Entry:
    return Entry(f"keras/{builder}", saved, f"{module}:{builder}", inputs)


def task(builder: str, *inputs: str, saved: str = "keras") -> Entry:
    return keras_entry(builder, *inputs, saved=saved, module="keras_tasks")


def app(name: str, size: int, saved: str = "keras", **options: object) -> Entry:
    place = "keras" if saved in ("keras", "h5") else saved
    return Entry(f"{place}/app_{name.lower()}", saved, "keras_models:app", (), (), (name, size), tuple(options.items()))


def torch_entry(
    builder: str, saved: str, *inputs: str, outputs: tuple[str, ...] = (), module: str = "torch_models"
) -> Entry:
    return Entry(f"torch/{builder}", saved, f"{module}:{builder}", inputs, outputs)


def timm(name: str, size: int, saved: str = "exported", **options: object) -> Entry:
    image = f"x:float32[batch,3,{size},{size}]"
    arguments = (name, size)
    return Entry(
        f"torch/timm_{name}", saved, "torch_libraries:timm_model", (image,), (), arguments, tuple(options.items())
    )


def torchvision(name: str, size: int, saved: str = "exported", **options: object) -> Entry:
    image = f"x:float32[batch,3,{size},{size}]"
    arguments = (name, size)
    return Entry(
        f"torch/tv_{name}", saved, "torch_libraries:torchvision_model", (image,), (), arguments, tuple(options.items())
    )


def hf(name: str, *inputs: str, saved: str = "hugging_face") -> Entry:
    return Entry(f"torch/hf_{name}", saved, f"torch_libraries:{name}", inputs)


def again(place: str, saved: str, builder: str, *inputs: str, outputs: tuple[str, ...] = ()) -> Entry:
    """Take a network once more, from another kind of file."""
    return Entry(f"{place}/{builder.partition(':')[2]}", saved, builder, inputs, outputs)


IDS = "input_ids:int64[batch,16]=3..119"
ATTENTION = "attention_mask:int64[batch,16]=0..1"
TYPES = "token_type_ids:int64[batch,16]=0..1"
PIXELS = "pixel_values:float32[batch,3,32,32]"

KERAS = (
    keras_entry("hand_named"),
    keras_entry("hand_dictionary"),
    keras_entry("hand_argmax"),
    keras_entry("hand_lstm"),
    keras_entry("hand_gru_free_length"),
    keras_entry("hand_bidirectional"),
    keras_entry("hand_bigru", saved="h5"),
    keras_entry("hand_conv1d"),
    keras_entry("hand_conv3d"),
    keras_entry("hand_attention", "ids:int32[batch,steps]=0..59"),
    keras_entry("hand_unet", "image:float32[batch,height,width,3]"),
    keras_entry("hand_preprocessing"),
    keras_entry("app_mobilenetv2"),
    keras_entry("app_mobilenetv3small"),
    keras_entry("app_efficientnetb0"),
    task("hand_siamese"),
    task("hand_autoencoder"),
    task("hand_generator"),
    task("hand_detector"),
    task("hand_spectral"),
    task("hand_convlstm"),
    task("hand_frames"),
    task("hand_masked"),
    task("hand_points", saved="h5"),
    task("hand_graph"),
    task("hand_vit"),
    task("hand_translator", "text:int32[batch,10]=0..29", "so_far:int32[batch,8]=0..34"),
    task("hand_wavenet"),
    task("hand_super_resolution"),
    task("hand_exact_gelu"),
    task("hand_recommender", "user:int64[batch]=0..49", "items:int64[batch,5]=0..29"),
    task("hand_normalised"),
    task("hand_strings"),
    app("MobileNet", 64, "h5", alpha=0.25),
    app("MobileNetV3Large", 64, minimalistic=True),
    app("EfficientNetV2B0", 64),
    app("DenseNet121", 64),
    app("NASNetMobile", 64),
    app("Xception", 80),
    app("InceptionV3", 96),
    app("ConvNeXtTiny", 64),
    app("ResNet50V2", 64),
)  # fmt: skip

TENSORFLOW = (
    app("MobileNetV2", 64, "savedmodel", alpha=0.35),
    again("savedmodel", "savedmodel", "keras_tasks:hand_subclassed"),
    again("savedmodel", "savedmodel", "keras_models:hand_lstm"),
    again("savedmodel", "savedmodel", "keras_tasks:hand_detector"),
    again("keras2", "keras2_h5", "keras2_models:separable"),
    again("keras2", "keras2_h5", "keras2_models:recurrent"),
    again("keras2", "keras2_savedmodel", "keras2_models:mobilenet"),
    again("tf", "tf_module", "tf_models:dense"),
    again("tf", "tf_module", "tf_models:spectral"),
    again("tf", "tf_hub", "tf_models:encoder", "input_ids:int32[batch,10]=0..49", "mask:int32[batch,10]=0..1"),
    app("MobileNetV3Small", 64, "tf_hub"),
)  # fmt: skip

TORCH = (
    torch_entry("hand_named", "exported", "zeta:float32[batch,12]", "alpha:float32[batch,5]"),
    torch_entry("hand_nested", "exported", "x:float32[batch,12]"),
    torch_entry("hand_topk", "exported", "x:float32[batch,20]"),
    torch_entry("hand_masked", "exported", "steps:float32[batch,length,6]", "keep:bool[batch,length]"),
    torch_entry("hand_block", "exported", "tokens:float32[batch,length,24]"),
    torch_entry("hand_bigru", "weights", "steps:float32[batch,10,6]"),
    torch_entry("hand_wave", "scripted", "wave:float32[batch,1,512]", outputs=("scores",)),
    torch_entry("hand_decoder", "exported", "noise:float32[batch,10]"),
    torch_entry("hand_warp", "exported", "image:float32[batch,3,32,32]"),
    torch_entry("hand_segmenter", "weights", "image:float32[batch,3,height,width]"),
    torch_entry("hand_super_resolution", "weights", "image:float32[batch,3,24,24]"),
    torch_entry("hand_video", "exported", "clip:float32[batch,1,8,16,16]"),
    torch_entry(
        "hand_recommender", "weights",
        "user:int64[batch]=0..49", "items:int64[batch,5]=0..29", "context:float32[batch,4]",
    ),
    torch_entry("hand_branching", "scripted", "x:float32[batch,8]", outputs=("y",)),
    torch_entry("hand_ops", "weights", "x:float32[batch,6]", "ids:int64[batch,3]=0..5"),
    *(
        torch_entry(name, saved, *inputs, module="torch_vision")
        for name, saved, *inputs in (
            ("hand_ssd", "exported", "image:float32[batch,3,32,32]"),
            ("hand_decoded", "exported", "image:float32[batch,3,32,32]"),
            ("hand_dcgan", "safetensors", "noise:float32[batch,16]"),
            ("hand_vae", "exported", "image:float32[batch,1,28,28]"),
            ("hand_diffusion", "exported", "image:float32[batch,3,16,16]", "step:int64[batch]=0..999"),
            ("hand_depthwise3d", "exported", "clip:float32[batch,2,6,12,12]"),
            ("hand_points", "safetensors", "points:float32[batch,48,3]"),
            ("hand_siamese", "exported", "left:float32[batch,3,24,24]", "right:float32[batch,3,24,24]"),
            ("hand_pose", "weights", "image:float32[batch,3,32,32]"),
            ("hand_pyramid", "exported", "image:float32[batch,3,32,32]"),
            ("hand_camera", "exported", "frame:uint8[batch,32,32,3]"),
            ("hand_style", "scripted", "image:float32[batch,3,24,24]"),
            ("hand_shuffled", "traced", "image:float32[batch,3,32,32]"),
        )
    ),
    *(
        torch_entry(name, saved, *inputs, module="torch_sequence")
        for name, saved, *inputs in (
            ("hand_stft", "exported", "wave:float32[batch,512]"),
            ("hand_separator", "exported", "wave:float32[batch,1,256]"),
            ("hand_wavenet", "weights", "wave:float32[batch,1,64]"),
            ("hand_conformer", "exported", "frames:float32[batch,20,24]"),
            ("hand_lstm", "exported", "series:float32[batch,30,5]"),
            ("hand_streaming", "weights",
             "frame:float32[batch,8]", "hidden:float32[batch,12]", "cell:float32[batch,12]"),
            ("hand_reader", "exported", "line:float32[batch,1,16,32]"),
            ("hand_encoder", "weights", "ids:int64[batch,12]=1..39"),
            ("hand_translator", "weights", "text:int64[batch,10]=0..29", "so_far:int64[batch,8]=0..34"),
            ("hand_rotary", "exported", "ids:int64[batch,12]=0..49"),
            ("hand_fourier", "exported", "tokens:float32[batch,16,16]"),
            ("hand_graph", "exported", "nodes:float32[20,6]", "start:int64[40]=0..19", "end:int64[40]=0..19"),
            ("hand_experts", "traced", "x:float32[batch,10]"),
            ("hand_tagger", "exported", "ids:int64[batch,10]=0..59"),
            ("hand_mixer", "pickled", "series:float32[batch,24,4]"),
            ("hand_hyper", "lightning", "features:float32[batch,9]"),
        )
    ),
)  # fmt: skip

LIBRARIES = (
    torch_entry("timm_resnet18", "exported", "x:float32[batch,3,64,64]"),
    torch_entry("timm_mobilenetv3", "exported", "x:float32[batch,3,64,64]"),
    torch_entry("timm_efficientnet_lite0", "weights", "x:float32[batch,3,64,64]"),
    torch_entry("timm_convnext_atto", "exported", "x:float32[batch,3,64,64]"),
    torch_entry("timm_vit_tiny", "exported", "x:float32[batch,3,64,64]"),
    torch_entry("timm_regnet", "exported", "x:float32[batch,3,64,64]"),
    timm("mobilenetv4_conv_small_050", 64),
    timm("mobilevit_xxs", 64),
    timm("edgenext_xx_small", 64),
    timm("efficientformerv2_s0", 224),
    timm("levit_128s", 224),
    timm("repvit_m0_9", 64),
    timm("ghostnet_050", 64),
    timm("mobileone_s0", 64),
    timm("fastvit_t8", 64),
    timm("efficientvit_b0", 64),
    timm("lcnet_050", 64, "traced"),
    timm("xcit_nano_12_p16_224", 64, img_size=64),
    timm("cait_xxs24_224", 64, img_size=64),
    timm("starnet_s1", 64),
    timm("pvt_v2_b0", 64),
    timm("resmlp_12_224", 64, img_size=64),
    timm("dla46_c", 64),
    torchvision("shufflenet_v2_x0_5", 64),
    torchvision("squeezenet1_1", 64),
    torchvision("mnasnet0_5", 64, "traced"),
    torchvision("regnet_y_400mf", 64),
    torch_entry("hf_bert", "weights", IDS.replace("3..", "0.."), ATTENTION, TYPES),
    torch_entry(
        "hf_distilbert", "weights",
        "input_ids:int64[batch,length]=0..119", "attention_mask:int64[batch,length]=0..1",
    ),
    torch_entry("hf_vit", "exported", PIXELS),
    torch_entry("hf_gpt2", "weights", "input_ids:int64[batch,16]=0..119"),
    hf("bert_classifier", IDS, ATTENTION, TYPES),
    hf("roberta", IDS, ATTENTION, TYPES.replace("..1", "..0")),
    hf("albert", IDS, ATTENTION, TYPES),
    hf("mobilebert", IDS, ATTENTION, TYPES),
    hf("electra", IDS, ATTENTION, TYPES),
    hf("distilbert_answers", IDS, ATTENTION),
    hf("t5_encoder", IDS, ATTENTION),
    # Whole masks: what a decoder answers where a word attends to nothing is undefined, and no two kernels agree on it.
    hf("llama", IDS, ATTENTION.replace("0..", "1..")),
    hf("deit", PIXELS),
    hf("swin", PIXELS),
    hf("dinov2", "pixel_values:float32[batch,3,28,28]"),
    hf("segformer", PIXELS),
    hf("yolos", PIXELS),
    hf("clip", IDS, PIXELS, ATTENTION),
    hf("wav2vec2", "input_values:float32[batch,1600]"),
    hf("whisper_encoder", "input_features:float32[batch,16,48]", saved="onnx"),
    hf("spectrogram", "input_values:float32[batch,48,32]"),
    hf("resnet", PIXELS),
)  # fmt: skip

FILES = (
    again("onnx", "onnx", "torch_vision:hand_ssd", "image:float32[batch,3,32,32]"),
    again("onnx", "onnx", "torch_models:hand_bigru", "steps:float32[batch,10,6]"),
    again("onnx", "onnx", "torch_models:timm_mobilenetv3", "x:float32[batch,3,64,64]"),
    again("onnx", "onnx", "torch_models:hand_topk", "x:float32[batch,20]"),
    again("onnx", "keras_onnx", "keras_models:app_mobilenetv2"),
    again("onnx", "keras_onnx", "keras_models:hand_conv1d"),
    again("tflite", "tflite", "torch_models:hand_wave", "wave:float32[1,1,512]"),
    again("tflite", "tflite", "torch_vision:hand_ssd", "image:float32[1,3,32,32]"),
    again("tflite", "keras_tflite", "keras_models:app_mobilenetv2"),
    again("tflite", "keras_tflite", "keras_models:hand_named"),
)  # fmt: skip

ENTRIES = (*KERAS, *TENSORFLOW, *TORCH, *FILES, *LIBRARIES)

BY_NAME = {entry.name: entry for entry in ENTRIES}

#: Networks that no page or bound of this project was made with: `make calibrate-tolerance` judges them.
UNSEEN = (
    *(timm(f"test_{name}", 64) for name in ("resnet", "efficientnet", "byobnet", "convnext", "nfnet", "mambaout")),
    timm("test_vit", 64, img_size=64),
    timm("resnet10t", 64),
    timm("mobilenetv2_050", 64, "traced"),
    timm("tinynet_e", 64),
)

BUILDABLE = BY_NAME | {entry.name: entry for entry in UNSEEN}
