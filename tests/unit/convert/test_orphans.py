"""A tensor that onnx2tf reads and never writes is computed from the same value in the other layout, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_tflite import Tiny

from convert.errors import RouteError
from convert.formats.tflite import read_model, write_model
from convert.routes._orphans import adopt, orphans
from validators.runtimes.litert import LiteRTSession

IMAGE = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)


@pytest.fixture
def lost(tmp_path):
    """A file that computes `sum_nhwc_bridge` (1, 2, 3, 4) and reads it as `sum` (1, 4, 2, 3), which nothing writes."""
    tiny = Tiny()
    image, bridge = tiny.tensor("image", IMAGE.shape), tiny.tensor("sum_nhwc_bridge", IMAGE.shape)
    orphan, out = tiny.tensor("sum", (1, 4, 2, 3)), tiny.tensor("out", (1, 4, 2, 3))
    tiny.operator("NEG", [image], bridge, tiny.schema.NegOptionsT())
    tiny.operator("ABS", [orphan], out, tiny.schema.AbsOptionsT())
    tiny.graph.inputs, tiny.graph.outputs = [image], [out]
    write_model(tmp_path / "lost.tflite", tiny.model)
    return tmp_path / "lost.tflite"


def test_an_orphan_is_computed_from_its_twin(lost):
    (said,) = adopt(lost, {"sum": ["sum", "sum_nhwc_bridge", "sum"]})
    assert "sum" in said
    assert orphans(read_model(lost)) == []
    (out,) = LiteRTSession(str(lost), 1).run({"image": IMAGE}).values()
    np.testing.assert_array_equal(out, IMAGE.transpose(0, 3, 1, 2))
    assert adopt(lost, {}) == ()


@pytest.mark.parametrize("names", [{}, {"sum": ["sum", "image"]}, {"sum": ["sum", "out"]}])
def test_an_orphan_without_a_twin_is_refused_by_name(lost, names):
    with pytest.raises(RouteError, match="reads sum, which nothing in it computes"):
        adopt(lost, names)
