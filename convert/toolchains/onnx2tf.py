"""onnx2tf: ONNX to TFLite by writing the flatbuffer itself, without TensorFlow."""

from __future__ import annotations

from convert.toolchains import TOOLCHAINS, Toolchain

#: NOTE: Why not onnx2tf's own list, which pins more: OpenCV (0.2 GB; without it, or without a display's libraries,
#: onnx2tf goes on alone), pytest, h5py, onnxscript, onnxoptimizer and sne4onnx serve roads that are not taken here, and
#: the psutil it pins has no wheel for Linux on ARM.
PACKAGES = (
    "ai-edge-litert==2.1.2",
    "backports-strenum==1.3.1",
    "colorama==0.4.6 ; sys_platform == 'win32'",
    "flatbuffers==25.12.19",
    "markdown-it-py==4.3.0",
    "mdurl==0.1.2",
    "ml-dtypes==0.5.4",
    "mpmath==1.3.0",
    "numpy==2.2.6",
    "onnx==1.20.1",
    "onnx2tf==2.6.9",
    "onnxruntime==1.26.0",
    "onnxsim==0.6.5",
    "packaging==26.3",
    "protobuf==7.35.1",
    "psutil==7.1.3",
    "pygments==2.21.0",
    "rich==15.0.0",
    "setuptools==81.0.0",
    "sng4onnx==2.0.1",
    "sympy==1.14.0",
    "tqdm==4.67.1",
    "typing-extensions==4.16.0",
)

TOOLCHAINS.register(
    Toolchain(
        name="onnx2tf",
        title="onnx2tf 2.6.9",
        version="2.6.9",
        python=(3, 12),
        below=(3, 14),  # ai-edge-litert 2.1.2 has no wheel for 3.14
        packages=PACKAGES,
        module="onnx2tf",
        probe=("-V",),
        download="90 MB",
    )
)
