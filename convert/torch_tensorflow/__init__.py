"""PyTorch graphs as TensorFlow graphs, operator by operator, with every free dimension left free.

PyTorch and TensorFlow never share a process: `recording` writes an exported program's steps and weights into a folder,
and `writing`, a program of its own, makes a SavedModel of them. One file per family of ATen operators, each registered
in `table.OPERATORS`. The families import TensorFlow at their heads, and only the writing program imports them.
"""

from __future__ import annotations

from convert.torch_tensorflow.recording import to_tensorflow

__all__ = ["to_tensorflow"]
