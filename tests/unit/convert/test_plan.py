"""Candidates: which chains of routes lead where, and in which order they are tried."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from convert import plan
from convert.errors import UnknownName, UsageError
from convert.formats import FORMATS
from convert.plan import Wish, candidates, require_candidates, targets
from convert.routes import Route, Work, has_free_batch
from convert.sources import SOURCES
from convert.spec import ModelFacts, Signature, TensorSpec
from convert.worker import Environment

FREE = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", ("batch",)),))
FIXED = FREE.fixed({"batch": 1})


def convert(work: Work):
    """Stand for a converter that is never called here."""
    raise NotImplementedError


def route(name: str, takes: str, gives: str, rank: int = 10, **more) -> Route:
    """Make a route from one kind or format to another."""
    return Route(name, name, (takes,), gives, rank, "a test", Environment("nowhere"), convert, **more)


@pytest.fixture
def routes(monkeypatch):
    """Put made-up routes in the place of the real ones."""

    def use(*made: Route) -> None:
        monkeypatch.setattr(plan, "ROUTES", list(made))

    return use


def names(kind: str, target: str, signature: Signature | None = None) -> list[str]:
    """Name the candidates in the order they are tried."""
    return [candidate.name for candidate in candidates(wish(kind, signature), target)]


def wish(kind: str, signature: Signature | None = None, *, traits: tuple[str, ...] = (), allow: tuple[str, ...] = ()):
    """Ask for candidates, from a model of which the signature is known or not."""
    return Wish(kind, allow, ModelFacts(signature, 0, traits=traits) if signature else None)


def test_candidates_of_one_edge_come_by_rank(routes):
    routes(route("slow", "pear", "onnx", 30), route("best", "pear", "onnx", 10), route("next", "pear", "onnx", 20))
    assert names("pear", "onnx") == ["best", "next", "slow"]


def test_equal_ranks_come_by_name_so_the_order_never_varies(routes):
    routes(route("b", "pear", "onnx"), route("a", "pear", "onnx"))
    assert names("pear", "onnx") == ["a", "b"]


def test_a_direct_route_comes_before_every_chain_whatever_its_rank(routes):
    routes(route("one", "pear", "onnx", 1), route("two", "onnx", "tflite", 1), route("direct", "pear", "tflite", 99))
    assert names("pear", "tflite") == ["direct", "one+two"]


def test_a_chain_leads_through_another_format(routes):
    routes(route("one", "pear", "torchscript"), route("two", "torchscript", "tflite"))
    assert names("pear", "tflite") == ["one+two"]


def test_a_chain_is_no_longer_than_its_limit(routes):
    formats = ["pear", "a", "b", "c", "tflite"]
    routes(*(route(f"{start}-{end}", start, end) for start, end in itertools.pairwise(formats)))
    assert len(formats) - 1 > plan.CHAIN_LIMIT
    assert names("pear", "tflite") == []


def test_a_chain_never_comes_back_to_a_format_it_passed(routes):
    routes(route("there", "pear", "onnx"), route("back", "onnx", "torchscript"), route("again", "torchscript", "onnx"))
    assert names("pear", "onnx") == ["there"]


def test_a_detour_to_a_route_that_could_be_taken_at_once_is_no_candidate(routes):
    both = Route("both", "both", ("pear", "torchscript"), "onnx", 10, "a test", Environment("nowhere"), convert)
    routes(both, route("detour", "pear", "torchscript"))
    assert names("pear", "onnx") == ["both"]


def test_a_route_that_does_not_apply_to_the_model_is_no_candidate(routes):
    routes(route("free", "pear", "onnx", 10), route("batch1", "pear", "onnx", 20, applies=has_free_batch))
    assert names("pear", "onnx", FREE) == ["free", "batch1"]
    assert names("pear", "onnx", FIXED) == ["free"]


def test_before_the_model_is_loaded_every_route_may_apply(routes):
    routes(route("batch1", "pear", "onnx", applies=has_free_batch))
    assert names("pear", "onnx", None) == ["batch1"]


def test_a_plan_names_its_routes_in_order(routes):
    routes(route("one", "pear", "onnx"), route("two", "onnx", "tflite"))
    (chain,) = candidates(wish("pear"), "tflite")
    assert [step.name for step in chain.routes] == ["one", "two"]


def test_where_no_route_leads_the_error_names_what_is_reachable(routes):
    routes(route("one", "pear", "onnx"))
    with pytest.raises(UsageError, match="no route leads from pear to tflite") as refused:
        require_candidates(wish("pear"), "tflite")
    assert "onnx" in refused.value.fix


def test_where_nothing_is_reachable_the_error_says_so(routes):
    routes()
    with pytest.raises(UsageError) as refused:
        require_candidates(wish("pear"), "tflite")
    assert "none" in refused.value.fix


def test_all_stands_for_every_format_that_can_be_reached_and_no_other(routes):
    routes(route("one", "pear", "onnx"), route("two", "onnx", "tflite"))
    assert targets(("all",), wish("pear")) == ("onnx", "tflite")


def test_formats_keep_the_order_they_were_asked_for_and_come_once():
    assert targets(("torchscript", "onnx", "torchscript"), wish("keras")) == ("torchscript", "onnx")
    assert targets(("torchscript", "all"), wish("keras"))[0] == "torchscript"
    assert sorted(targets(("torchscript", "all"), wish("keras"))) == list(FORMATS.names())


@pytest.mark.parametrize(("typed", "meant"), [("tflte", "tflite"), ("onxx", "onnx"), ("torch-script", "torchscript")])
def test_an_unknown_format_is_answered_with_the_nearest(typed, meant):
    with pytest.raises(UnknownName, match=f"no format named '{typed}'") as unknown:
        targets(("onnx", typed), wish("keras"))
    assert f"did you mean {meant!r}" in unknown.value.fix


def test_the_nearest_format_is_suggested_and_never_taken():
    with pytest.raises(UnknownName):
        targets(("TFLITE",), wish("keras"))


@pytest.mark.parametrize("kind", ["keras", "keras_h5"])
@pytest.mark.parametrize("target", ["tflite", "onnx"])
def test_keras_falls_back_to_pytorchs_converters_through_a_torchscript_artifact(kind, target):
    chains = [candidate for candidate in candidates(wish(kind), target) if len(candidate.routes) > 1]
    assert any([step.gives for step in chain.routes] == ["torchscript", target] for chain in chains)


@pytest.mark.parametrize(("kind", "target"), list(itertools.product(SOURCES.names(), FORMATS.names())))
def test_the_real_routes_make_plans_without_gaps_or_detours(kind, target):
    for candidate in candidates(wish(kind), target):
        at, passed = kind, [kind]
        for position, step in enumerate(candidate.routes):
            assert step.accepts(at)
            assert position == 0 or not step.accepts(kind), f"{candidate.name} could begin at {step.name}"
            at = step.gives
            passed.append(at)
        assert at == target
        assert len(passed) == len(set(passed)) or (kind == target and len(passed) == 2)


@pytest.mark.parametrize(("kind", "target"), list(itertools.product(SOURCES.names(), FORMATS.names())))
def test_of_the_real_candidates_those_that_keep_dimensions_come_first_then_the_shortest_then_by_rank(kind, target):
    found = [
        (any(step.needs for step in c.routes), c.fixes, len(c.routes), [step.rank for step in c.routes])
        for c in candidates(wish(kind), target)
    ]
    assert found == sorted(found)


def test_a_candidate_that_fixes_dimensions_comes_after_every_chain_that_keeps_them(routes):
    fixed = dataclasses.replace(route("batch1", "pear", "tflite", 1), fixes=True)
    routes(fixed, route("one", "pear", "onnx"), route("two", "onnx", "tflite"))
    assert names("pear", "tflite", FREE) == ["one+two", "batch1"]


def test_a_chain_does_not_lead_over_a_file_with_fixed_dimensions(routes):
    fixed = dataclasses.replace(route("batch1", "pear", "onnx", 1), fixes=True)
    routes(fixed, route("two", "onnx", "tflite"))
    assert names("pear", "tflite") == []


def test_a_route_that_is_poor_at_a_trait_of_the_model_comes_last_for_such_models_only(routes):
    slow = dataclasses.replace(route("unrolls", "pear", "tflite", 1), poor_at=("recurrent",))
    fixed = dataclasses.replace(route("batch1", "pear", "tflite", 2), fixes=True)
    routes(slow, fixed)
    plain, recurrent = (candidates(wish("pear", FREE, traits=traits), "tflite") for traits in ((), ("recurrent",)))
    assert [found.name for found in plain] == ["unrolls", "batch1"]
    assert [found.name for found in recurrent] == ["batch1", "unrolls"]


def test_a_route_to_foreign_operators_is_taken_last_and_only_where_they_are_allowed(routes):
    flex = dataclasses.replace(route("flex", "pear", "tflite", 1), needs="flex")
    routes(flex, route("plain", "pear", "tflite", 9))
    assert [found.name for found in candidates(wish("pear"), "tflite")] == ["plain"]
    assert [found.name for found in candidates(wish("pear", allow=("flex",)), "tflite")] == ["plain", "flex"]


def test_via_names_a_candidate_or_a_route_on_its_way(routes):
    routes(route("direct", "pear", "tflite"), route("one", "pear", "onnx"), route("two", "onnx", "tflite"))
    asked = {
        via: [c.name for c in require_candidates(wish("pear"), "tflite", via)] for via in ("direct", "one+two", "two")
    }
    assert asked == {"direct": ["direct"], "one+two": ["one+two"], "two": ["one+two"]}
    with pytest.raises(UnknownName, match="no candidate from pear to tflite named 'tow'") as unknown:
        require_candidates(wish("pear"), "tflite", "tow")
    assert "one+two" in unknown.value.fix
