"""Work that several threads may want and that is done once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Work that several threads may want: the first to ask does it, the others wait for what came of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: dict[str, Future[T]] = {}

    def once(self, key: str, work: Callable[[], T]) -> T:
        """Give what `work` returned for this key, or raise what it raised, whoever ran it."""
        with self._lock:
            mine = key not in self._futures
            future = self._futures.setdefault(key, Future())
        if mine:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
                raise
        return future.result()
