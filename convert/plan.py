"""Candidates: which chains of routes lead from a kind of model file to a format, in the order to try them."""

from __future__ import annotations

from dataclasses import dataclass

from convert.errors import UnknownName, UsageError
from convert.formats import FORMATS
from convert.routes import ROUTES, Route
from convert.spec import Signature

CHAIN_LIMIT = 3  # routes; longer detours only add ways to lose something

ALL = "all"


@dataclass(frozen=True, slots=True)
class Plan:
    """One candidate: the routes that lead from the source to the target, in order."""

    routes: tuple[Route, ...]

    @property
    def name(self) -> str:
        """The routes' names, joined."""
        return "+".join(route.name for route in self.routes)


def targets(names: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """Resolve the formats a user asked for; `all` means every format that some route reaches from `kind`.

    Raises UnknownName, with the nearest known one, for a format that is not registered.
    """
    chosen: dict[str, None] = {}
    for name in names:
        if name == ALL:
            chosen |= dict.fromkeys(form for form in FORMATS.names() if candidates(kind, form, None))
        elif name not in FORMATS.names():
            raise UnknownName.among("format", name, (*FORMATS.names(), ALL))
        else:
            chosen[name] = None
    return tuple(chosen)


def candidates(kind: str, target: str, signature: Signature | None) -> tuple[Plan, ...]:
    """List the plans from `kind` to `target`: shorter chains first, then by the rank of their routes.

    Without a `signature` (before loading) routes that only apply to some models are listed too.
    """
    found: list[Plan] = []

    def extend(chain: tuple[Route, ...], at: str) -> None:
        for route in ROUTES:
            # A detour to a route that could be taken at once, or back to a format already passed, adds nothing.
            passed = {kind, *(step.gives for step in chain)}
            detour = chain and (route.accepts(kind) or route.gives in passed)
            if not route.accepts(at) or detour or (signature is not None and not route.applies(signature)):
                continue
            longer = (*chain, route)
            if route.gives == target:
                found.append(Plan(longer))
            elif len(longer) < CHAIN_LIMIT:
                extend(longer, route.gives)

    extend((), kind)
    found.sort(key=lambda plan: (len(plan.routes), [route.rank for route in plan.routes], plan.name))
    return tuple(found)


def require_candidates(kind: str, target: str, signature: Signature | None) -> tuple[Plan, ...]:
    """List the plans from `kind` to `target`; raise UsageError, naming what is reachable, when there is none."""
    plans = candidates(kind, target, signature)
    if not plans:
        reachable = [form for form in FORMATS.names() if candidates(kind, form, signature)]
        raise UsageError(
            f"no route leads from {kind} to {target}", fix=f"from {kind} there are: {', '.join(reachable) or 'none'}"
        )
    return plans
