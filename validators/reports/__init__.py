"""Renderings of the report: one file each, registered by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from convert.registry import Registry
from validators.report import Report

__all__ = ["RENDERINGS", "Rendering"]


@dataclass(frozen=True, slots=True)
class Rendering:
    """One way to show a report as text."""

    name: str
    title: str
    render: Callable[[Report], str]


RENDERINGS: Registry[Rendering] = Registry("rendering", "validators.reports")
