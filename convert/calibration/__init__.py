"""Calibration data: where it comes from, read into samples that quantizers take one after another.

A kind of data is one file of this folder that registers a `Reader`.
"""

from __future__ import annotations
