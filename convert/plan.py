"""Candidates: which chains of routes lead from a kind of model file to a format, in the order to try them.

Candidates that keep the model's free dimensions come before those that fix them; among them those that are good at the
model's traits before those that make slow files of them; then shorter chains; then by the rank of their routes.
"""

from __future__ import annotations

from dataclasses import dataclass

from convert.errors import UnknownName, UsageError
from convert.formats import FORMATS
from convert.routes import ROUTES, Route
from convert.spec import ModelFacts, Signature

CHAIN_LIMIT = 2  # routes; longer detours were never needed and only add ways to lose something

ALL = "all"


@dataclass(frozen=True, slots=True)
class Plan:
    """One candidate: the routes that lead from the source to the target, in order."""

    routes: tuple[Route, ...]

    @property
    def name(self) -> str:
        """The routes' names, joined."""
        return "+".join(route.name for route in self.routes)

    @property
    def title(self) -> str:
        """The routes' titles, for people."""
        return ", then ".join(route.title for route in self.routes)

    @property
    def fixes(self) -> bool:
        """Whether it fixes dimensions that the model leaves free."""
        return any(route.fixes for route in self.routes)

    @property
    def toolchains(self) -> tuple[str, ...]:
        """The environments of their own that its converters run in."""
        return tuple(dict.fromkeys(route.toolchain for route in self.routes if route.toolchain))

    def poor_at(self, traits: tuple[str, ...]) -> tuple[str, ...]:
        """Name the traits of a model of which it makes slow files."""
        return tuple(trait for trait in traits if any(trait in route.poor_at for route in self.routes))


@dataclass(frozen=True, slots=True)
class Wish:
    """What candidates are sought for: a kind of source, what the user allows, and the model where it is known."""

    kind: str
    allow: tuple[str, ...] = ()
    facts: ModelFacts | None = None  # without it (before loading) routes that apply only to some models are listed too

    @property
    def signature(self) -> Signature | None:
        """The model's signature, where it is known."""
        return self.facts.signature if self.facts else None


def targets(names: tuple[str, ...], wish: Wish) -> tuple[str, ...]:
    """Resolve the formats a user asked for; `all` means every format that some route reaches.

    Raises UnknownName, with the nearest known one, for a format that is not registered.
    """
    chosen: dict[str, None] = {}
    for name in names:
        if name == ALL:
            chosen |= dict.fromkeys(form for form in FORMATS.names() if candidates(wish, form))
        elif name not in FORMATS.names():
            raise UnknownName.among("format", name, (*FORMATS.names(), ALL))
        else:
            chosen[name] = None
    return tuple(chosen)


def candidates(wish: Wish, target: str) -> tuple[Plan, ...]:
    """List the plans that lead to `target`, in the order to try them."""
    found: list[Plan] = []
    kind, signature = wish.kind, wish.signature

    def extend(chain: tuple[Route, ...], at: str) -> None:
        for route in ROUTES:
            # A detour to a route that could be taken at once, or back to a format already passed, adds nothing.
            passed = {kind, *(step.gives for step in chain)}
            detour = chain and (route.accepts(kind) or route.gives in passed or route.first)
            applies = signature is None or route.applies(signature)
            allowed = not route.needs or route.needs in wish.allow
            if not route.accepts(at) or detour or not applies or not allowed:
                continue
            longer = (*chain, route)
            if route.gives == target:
                found.append(Plan(longer))
            elif len(longer) < CHAIN_LIMIT and not (route.fixes or route.needs or route.last):
                extend(longer, route.gives)

    extend((), kind)
    traits = wish.facts.traits if wish.facts else ()
    found.sort(
        key=lambda plan: (
            any(route.needs for route in plan.routes),
            len(plan.poor_at(traits)),
            plan.fixes,
            len(plan.routes),
            [route.rank for route in plan.routes],
            plan.name,
        )
    )
    return tuple(found)


def require_candidates(wish: Wish, target: str, via: str = "") -> tuple[Plan, ...]:
    """List the plans that lead to `target`, only those named `via` or taking a route of that name where it is given.

    Raises UsageError, naming what is reachable, when there is none; UnknownName for a `via` that names none of them.
    """
    plans = candidates(wish, target)
    if not plans:
        reachable = [form for form in FORMATS.names() if candidates(wish, form)]
        raise UsageError(
            f"no route leads from {wish.kind} to {target}",
            fix=f"from {wish.kind} there are: {', '.join(reachable) or 'none'}",
        )
    chosen = tuple(plan for plan in plans if plan.name == via) or tuple(
        plan for plan in plans if via in ("", *(route.name for route in plan.routes))
    )
    if not chosen:
        raise UnknownName.among(f"candidate from {wish.kind} to {target}", via, (plan.name for plan in plans))
    return chosen
