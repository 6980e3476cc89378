"""Which steps from line to line an input takes in the modules of interest: the feedback of the search."""

import sys
from collections.abc import Sequence
from types import CodeType, FrameType, ModuleType
from typing import Any

MAX_EDGES = 100_000

Edge = tuple[CodeType, int, int | type]


class Tracer:
    """Collects the steps between `begin` and `end` that were never seen before."""

    def __init__(self, modules: Sequence[ModuleType]) -> None:
        self._files = frozenset(str(module.__file__) for module in modules)
        self._seen: set[Edge] = set()
        self._latest: dict[int, int] = {}
        self._new = False

    @property
    def num_edges(self) -> int:
        """Different steps so far."""
        return len(self._seen)

    def begin(self) -> None:
        """Follow what runs from here on."""
        self._latest.clear()
        if self._files:
            sys.settrace(self._call)

    def end(self) -> bool:
        """Follow nothing any more; whether there was a step that is new."""
        sys.settrace(None)
        new, self._new = self._new, False
        return new

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return":
            self._latest.pop(id(frame), None)
            return None
        # An exception is a step of its own: another kind at the same line is another outcome.
        step = frame.f_lineno if event == "line" else argument[0]
        edge = (frame.f_code, self._latest.get(id(frame), 0), step)
        self._latest[id(frame)] = frame.f_lineno
        if edge not in self._seen and len(self._seen) < MAX_EDGES:
            self._seen.add(edge)
            self._new = True
        return self._line
