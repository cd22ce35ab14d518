"""Registries: a plug-in is one file in a scanned folder that registers one object."""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from convert.errors import UnknownName


class Named(Protocol):
    """What a registry can hold: anything with a name."""

    @property
    def name(self) -> str:
        """What the plug-in is asked for by."""


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
    """The plug-ins of one kind, by name, found by importing every module of one package."""

    def __init__(self, noun: str, package: str) -> None:
        self.noun = noun
        self.package = package
        self._items: dict[str, T] = {}
        self._scanned = False
        self._lock = threading.RLock()

    def register(self, item: T) -> T:
        """Add `item`; a second one of the same name is refused, so no file can shadow another."""
        if item.name in self._items:
            raise ValueError(f"two {self.noun}s are named {item.name!r}; rename one of them")
        self._items[item.name] = item
        return item

    def unregister(self, name: str) -> None:
        """Take `name` out again, for tests that add a plug-in of their own."""
        del self._items[name]

    def __getitem__(self, name: str) -> T:
        self._scan()
        try:
            return self._items[name]
        except KeyError:
            raise UnknownName.among(self.noun, name, self._items) from None

    def __iter__(self) -> Iterator[T]:
        self._scan()
        return iter(sorted(self._items.values(), key=lambda item: item.name))

    def names(self) -> tuple[str, ...]:
        """All registered names, sorted."""
        return tuple(item.name for item in self)

    def _scan(self) -> None:
        # Several threads may ask first at once, and a plug-in's own import may ask again.
        with self._lock:
            if self._scanned:
                return
            self._scanned = True
            try:
                package = importlib.import_module(self.package)
                for module in pkgutil.iter_modules(package.__path__):
                    # One that several plug-ins share registers nothing, and may need a framework that only they use.
                    if not module.name.startswith("_"):
                        importlib.import_module(f"{self.package}.{module.name}")
            except BaseException:
                self._scanned = False  # a plug-in that does not import must not pass for one that is not there
                raise
