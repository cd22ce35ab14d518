"""Every number that decides a parity verdict, each with its reason."""

from __future__ import annotations

#: Bound on R = rmse(artifact, float64) / rmse(source at its own precision, float64), by the artifact's precision.
#: Right fp32 exports of a 47-model zoo measured 1.0 to 1.6 at the median and at most 4; of this project's zoo, at most
#: 6.8: a wav2vec2 whose group normalisation PyTorch happens to round little, while five other implementations agree on
#: 4 to 6.8 at 91 to 95 dB. A normalisation epsilon changed from 1e-5 to 1e-3 measured 3,000 to 8,600.
RATIO_BOUNDS = {
    "fp32": 8.0,
    "fp16": 2.0,
    "int8-dynamic": 1.25,
    "int8": 1.25,
    "int16x8": 1.5,
    "int8-weights": 1.25,
    "int4-weights": 1.25,
}

#: The share of an integer output that may differ, by precision, where neither the source nor the ideal gives that
#: value: a class index flips where two scores are nearer than a rounding of the kernels.
EXACT_SHARE = {
    "fp16": 0.02,
    "int8-dynamic": 0.05,
    "int8": 0.05,
    "int16x8": 0.02,
    "int8-weights": 0.02,
    "int4-weights": 0.05,
}

#: An error this small against the reference's rms passes whatever R is: a source whose own noise happens to vanish
#: (integers in floats, a single copy) would make any rounding look infinite. Eight times the float32 epsilon.
FLOOR = 1e-6

#: R of the worst single case may exceed the bound over all cases by this factor: one case has few elements, and its
#: source noise may be small by luck. Faults measure thousands.
CASE_FACTOR = 16.0

#: A case is set aside where the source itself is chaotic on it: its own rounding exceeds this share of the output's rms
#: there, and this many times what is usual for its cases; at most this share of the cases. On one large input an
#: EfficientNet erred by 1.0 against 3e-6 on all others, and would have drowned every fault in them.
CHAOS_SHARE = 1e-2
CHAOS_OVER_USUAL = 100.0
CHAOS_CASES = 0.25

#: Whether outputs vary with the inputs shows from two cases on; an artifact fixed to batch 2 can run a single one.
FEWEST_CASES = 2

#: Where no float64 oracle runs: the largest error over the largest magnitude of the reference, by precision.
#: 1e-4 is what right exports of the Keras zoo stay under; it misses small faults and refuses ill-conditioned models,
#: so the report says that it was used.
SCALED_MAX = {"fp32": 1e-4}

#: An output varies with the inputs when its standard deviation across cases exceeds both of these: this many times the
#: source's own rounding noise, and this share of its rms. Untrained networks vary by 1e-12.
VARIATION_OVER_NOISE = 8.0
VARIATION_SHARE = 1e-6

#: The least signal to quantization noise an output must keep on real or natural inputs, in dB, by precision.
MIN_SQNR_DB = {
    "fp16": 40.0,
    "int8-dynamic": 20.0,
    "int8": 20.0,
    "int16x8": 30.0,
    "int8-weights": 20.0,
    "int4-weights": 10.0,
}
