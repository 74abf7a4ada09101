"""From a path to its route's template, before the web framework looks at it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route

from .openapi import COMPUTING

#: Stands for every path that has no route.
OTHER = "other"


class RouteTable:
    """The routes of an application, which must all be there.

    Logs and metrics name a template where a path would be the client's words, and limits depend on it.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._exact: set[str] = set()
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        self._computing: set[str] = set()
        self._methods: dict[str, set[str]] = {}
        for route in routes:
            if not isinstance(route, Route | APIRoute):
                continue
            if "{" in route.path:
                self._patterns.append((route.path_regex, route.path))
            else:
                self._exact.add(route.path)
            self._methods.setdefault(route.path, set()).update(route.methods or ())
            if COMPUTING in getattr(route, "tags", ()):
                self._computing.add(route.path)

    def template(self, path: str) -> str:
        """The template that a path fits; `OTHER` for none."""
        if path in self._exact:
            return path
        return next((template for pattern, template in self._patterns if pattern.match(path)), OTHER)

    def methods(self, template: str) -> frozenset[str]:
        """The methods that a template's routes take, together."""
        return frozenset(self._methods.get(template, ()))

    def posts(self, template: str) -> bool:
        """Whether a template's route takes the method POST."""
        return "POST" in self.methods(template)

    def computes(self, template: str) -> bool:
        """Whether a template's route computes texts."""
        return template in self._computing
