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

#: Bound on D = rmse(artifact, ideal) / rmse(ideal, float64), by format and precision; where there is none, D is
#: reported and not judged. Right artifacts of nine networks measured at most 0.17 (ONNX int8), 0.04 (ONNX
#: int8-dynamic), 0.12 (ONNX int16x8), 0.15 (TorchScript int8), 1e-5 (TorchScript, other), 0.04 (TFLite int16x8 and
#: int8-weights) and 0.31 (TFLite int8-dynamic), most of them below 1e-3. Faults of one hidden layer within the bound on
#: R (a scale 1.05 or one channel's 1.2 times what it was, an epsilon 1.5 times) measured 0.46 to 1.6. Not judged: fp16,
#: whose ideal rounds weights and not activations (right files reach 1.2, and faults hundreds on R); 4 bits, whose
#: quantizers choose roundings that compensate each other.
DISTANCE_BOUNDS = {
    ("tflite", "int8"): 0.35,
    ("tflite", "int8-dynamic"): 0.35,
    ("tflite", "int16x8"): 0.25,
    ("tflite", "int8-weights"): 0.25,
    ("onnx", "int8"): 0.25,
    ("onnx", "int8-dynamic"): 0.25,
    ("onnx", "int16x8"): 0.25,
    ("onnx", "int8-weights"): 0.25,
    ("torchscript", "int8"): 0.3,
    ("torchscript", "int8-dynamic"): 0.25,
    ("torchscript", "int8-weights"): 0.25,
}

#: An artifact beyond that bound may still be this many times as far from its ideal as that is from itself with its
#: constants nudged: in deep networks every rounding that falls to the other side moves those behind it, until two right
#: files differ as much as each of them errs. Right artifacts measured 0.3 to 2.0 times (MobileNetV3 0.80 over 0.41).
DISTANCE_OVER_SWAY = 3.0

#: On other kernel paths a reduced artifact's bound on R, over its own proven run, is this many times as large: integer
#: kernels differ in more than the order of their sums. Right files measured 1.27 (an attention block in int8-dynamic on
#: LiteRT's built-in kernels, which leave zero in the middle of activations), 1.6 (a ViT in int8 on its reference
#: kernels) and 6.0 (the soft argmax of heat maps there, a sum of integer probabilities).
PATH_FACTOR = 16.0

#: By which share, at most, each constant of an ideal is nudged: what kernels that add in another order differ by.
NUDGE = 1e-6

#: A channel's integers count as roundings of its float weights where their errors correlate with these no more than by
#: chance: errors spread over a step to either side have a standard deviation of 0.58 steps; three of these.
ROUNDING_DRIFT = 3 * 0.58

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

#: Float32's smallest normal number. Engines may flush what is smaller to zero, so an output whose rms is below it has
#: no scale of its own: it gets that of all cases, as one that is zero throughout does.
SMALLEST_NORMAL = 2.0**-126

#: R of the worst single case may exceed the bound over all cases by this factor: one case has few elements, and its
#: source noise may be small by luck. Faults measure thousands.
CASE_FACTOR = 16.0

#: A case is set aside where the source itself is chaotic on it: its own rounding exceeds this share of the output's rms
#: there, and this many times what is usual for its cases; at most this share of the cases. On one large input an
#: EfficientNet erred by 1.0 against 3e-6 on all others, and would have drowned every fault in them.
CHAOS_SHARE = 1e-2
CHAOS_OVER_USUAL = 100.0
CHAOS_CASES = 0.25

#: Where one case holds more than this share of the source's rounding on all (of squares), R is that of a single case,
#: and a single case's bound is what fits: an fp32 artifact that fails by R is judged again with such cases one by one
#: and the others by R; constant inputs likewise, see `inputs.CONSTANT`. The instance normalisation of a style transfer
#: multiplies rounding by 316 on a constant image (its epsilon is 1e-5): that one of 36 held 87 % of the source's noise,
#: and R was 44 with it, 0.9 over the others.
DOMINANT_SHARE = 0.5

#: How many integers of a case an fp32 artifact may change where rounding changes one of the source's own: places that a
#: tie decides agree by chance too. Of eight boxes whose scores had all become 1.0, float64 chose six others, and each
#: engine another eight of three classes. Where rounding decides this share of all integers of an output, nothing is
#: proven of it. Together: integers that are wrong everywhere cannot pass.
CHANGED_PER_UNDECIDED = 1
UNDECIDED_SHARE = 0.5

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

# Quality: how far a reduced artifact may be from its source although it computes rightly.

#: Least SQNR of an output over the cases quality is judged on, in dB, by precision. 20 dB is an error of a tenth of the
#: signal: what separates networks that quantize well (21 dB and more, zoo of 47) from those whose answers change
#: (MobileNetV3 2.5, RepViT 3.3, by the tools' defaults). Rounding weights alone, per channel, leaves a trained digits
#: network, ConvNeXt, ViT and EfficientNet 59 to 74 dB in half precision, 31 to 43 in 8 bits, 5 to 17 in 4: so 16-bit
#: activations beside 8-bit weights need 25, half precision 40, and 4 bits 10, which not every network has without some
#: layers kept. (Networks of random weights with batch normalisation amplify any rounding: 31, 8 and -2 dB.)
MIN_SQNR_DB = {
    "fp16": 40.0,
    "int16x8": 25.0,
    "int8": 20.0,
    "int8-dynamic": 20.0,
    "int8-weights": 20.0,
    "int4-weights": 10.0,
}

#: Least share of rows whose top answer is the source's, where the source's own noise does not decide it; one changed
#: row alone is never a failure, since a single row proves no rate.
MIN_AGREEMENT = 0.99
FREE_FLIPS = 1

#: Fewer rows than this are not judged by agreement: one flip among 19 is more than 5 %.
AGREEMENT_ROWS = 20

#: An output counts as scores of classes where the lead of its top answer is typically this share of the spread of the
#: row. A trained classifier's leads by about one spread and more; of 10 to 2048 normal numbers, as an embedding's may
#: be, the largest leads by 0.48 to 0.20 of it, and after a tanh by less than 0.03.
DECISIVE = 0.5

#: Share of the float model's metric that may be lost: MLPerf Inference asks of quantized models for 99 % of it.
MAX_ACCURACY_DROP = 0.01

#: Of every bound that is said to hold "at 95 %".
CONFIDENCE = 0.95

#: Draws of the bootstrap: the 5 % quantile of 2000 means moves by a twentieth of their spread; 200 where a metric must
#: be computed anew for each, twice.
RESAMPLES = 2000
METRIC_RESAMPLES = 200
