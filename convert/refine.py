"""Refining what passed already: the ranges that another tool's defaults would have given are tried beside ours."""

from __future__ import annotations

import dataclasses

from convert.building import Tried
from convert.errors import RouteError
from convert.precision import QUANTIZERS
from convert.recipe import AVERAGE, MIN_MAX
from convert.spec import CALIBRATED
from convert.trials import Bench, score_recipe, sqnr_of, try_recipe
from validators.report import Attempt

#: The ranges that tools have by default: TFLiteConverter and ONNX Runtime take the ends of all samples,
#: ai-edge-quantizer their average, with which a ViT keeps 26.4 dB instead of 25.4.
DEFAULTS = (MIN_MAX, AVERAGE)

#: What other ranges must gain for another proof to be worth its time; below it, two measurements of one file differ by
#: the order of additions.
GAIN_DB = 0.05


def other_defaults(bench: Bench, base: Attempt, tried: list[Tried]) -> list[Tried]:
    """Try what passed with the ranges of other tools' defaults; give the trials that keep more of the signal.

    Each costs one quantization and one run over the rows that quality is judged on; only what gains is proven.
    """
    request, found = bench.run.request, []
    passed = [item for item in tried if item.passed]
    if request.recipe or request.search_seconds <= 0 or not passed:
        return []
    best = max(map(sqnr_of, passed))
    for item in passed:
        recipe, proof = item.attempt.recipe, item.proof
        if recipe is None or proof is None or recipe.precision not in CALIBRATED:
            continue
        quantizer = QUANTIZERS[recipe.quantizer]
        for ranges in DEFAULTS:
            if ranges == recipe.ranges or ranges not in quantizer.ranges:
                continue
            other = dataclasses.replace(recipe, ranges=ranges)
            try:
                score = score_recipe(bench, base, quantizer, other, proof)
            except RouteError as error:
                bench.run.say(f"{recipe.format}: {recipe.precision} with {ranges} ranges: {error.message}")
                continue
            if not score.passed or score.sqnr_db is None or score.sqnr_db < best + GAIN_DB:
                continue
            bench.run.say(f"{recipe.format}: {ranges} ranges keep {score.sqnr_db:.1f} dB, not {best:.1f}")
            proven = try_recipe(bench, base, quantizer, other)
            if proven.passed:
                best = max(best, sqnr_of(proven))
                found.append(proven)
    return found
