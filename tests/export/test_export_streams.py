from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hhmnet.export.network import PLACE
from hhmnet.export.parity import session
from hhmnet.export.streams import fill, free_weights

onnx = pytest.importorskip("onnx", reason="exporting needs pip install 'hhmnet[export]'")
pytest.importorskip("onnxruntime", reason="exporting needs pip install 'hhmnet[export]'")
helper = onnx.helper
WEIGHTS = {name: {"scale": torch.tensor([float(i + 2)])} for i, name in enumerate(("joint", "bone"))}


def value(name: str) -> Any:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"])


def encoder() -> Any:
    """x → x * scale + 10, and its negative, which nobody needs."""
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["scaled"], "a"),
        helper.make_node("Add", ["scaled", "ten"], ["y"], "b"),
        helper.make_node("Neg", ["y"], ["z"], "c"),
    ]
    ten = helper.make_tensor("ten", onnx.TensorProto.FLOAT, [1], [10.0])
    return helper.make_graph(nodes, "encoder", [value("x"), value("scale")], [value("y"), value("z")], [ten])


def places(*streams: str) -> Any:
    """A graph in which the encoders of these streams see x one after the other, each what the one before said."""
    domain, kind = PLACE
    nodes, last = [], "x"
    for i, stream in enumerate(streams):
        nodes.append(
            helper.make_node(kind, [last], [f"y{i}", f"z{i}"], f"n{i}", domain=domain, stream=stream)
        )
        last = f"y{i}"
    nodes.append(helper.make_node("Identity", [last], ["out"], "end"))
    graph = helper.make_graph(nodes, "main", [value("x")], [value("out")])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize(
    ("streams", "wanted"),
    [
        (("joint",), [12, 14]),
        (("bone", "joint"), [(3 + 10) * 2 + 10, (6 + 10) * 2 + 10]),
        # A clip's second view meets the same encoder again.
        (("joint", "bone", "joint", "joint"), None),
    ],
)
def test_each_place_gets_its_streams_encoder(streams: tuple[str, ...], wanted: list[float] | None) -> None:
    x = np.array([1, 2], np.float32)
    model = places(*streams)
    fill(model, encoder(), WEIGHTS)
    onnx.checker.check_model(model)
    assert [entry.domain for entry in model.opset_import] == [""]
    if wanted is None:
        wanted = x
        for stream in streams:
            wanted = wanted * WEIGHTS[stream]["scale"].numpy() + 10
    np.testing.assert_allclose(session(model.SerializeToString()).run(None, {"x": x})[0], wanted)


def test_weights_become_inputs() -> None:
    ir = pytest.importorskip("onnx_ir")
    graph = encoder()
    graph.initializer.append(helper.make_tensor("scale", onnx.TensorProto.FLOAT, [1], [2.0]))
    del graph.input[1]
    model = ir.from_proto(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    )
    free_weights(model, {**WEIGHTS["joint"], "of a layer that the graph lacks": torch.zeros(1)})
    assert [entry.name for entry in model.graph.inputs] == ["x", "scale"]
    assert list(model.graph.initializers) == ["ten"]
    assert model.graph.inputs[1].const_value is None
