"""A search begins with what it can change."""

from __future__ import annotations

from convert.building import Tried
from convert.quantize import most_hopeful
from convert.recipe import Recipe
from validators.quality import OutputQuality, Quality
from validators.report import Attempt, Stage
from validators.verdict import Status


def lossy(quantizer: str, sqnr_db: float) -> Tried:
    output = OutputQuality("logits", Status.FAIL, "", "float64", 640, sqnr_db)
    quality = Quality(Status.FAIL, "quantization loss", "rows", 64, sqnr_db, outputs=(output,))
    return Tried(Attempt("", "", Stage.QUALITY, "", quality=quality, recipe=Recipe("tflite", "int8", quantizer)), None)


def test_a_quantizer_that_leaves_no_layer_out_is_not_searched_though_it_lost_less():
    able, better = lossy("ai-edge-quantizer", 8.6), lossy("tflite-converter", 8.9)
    assert most_hopeful([better, able]) is able
    assert most_hopeful([better]) is better


def test_of_quantizers_that_can_be_searched_the_one_that_lost_less_is():
    less, more = lossy("ai-edge-quantizer", 12.0), lossy("ai-edge-quantizer", 8.0)
    assert most_hopeful([more, less]) is less
