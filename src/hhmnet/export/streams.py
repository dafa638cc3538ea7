"""Several streams in one ONNX graph: their encoder's nodes, made once, with each stream's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hhmnet.export.network import PLACE


def weights_of(encoder: nn.Module) -> dict[str, Tensor]:
    """What differs from stream to stream, by the names that it has in a graph."""
    return {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}


def free_weights(model: Any, names: Mapping[str, Tensor]) -> None:
    """Make a graph's weights its inputs, so that nothing made of one stream's weights is folded into it.

    Args:
        model: ``onnx_ir.Model``; it is changed.
        names: the weights.
    """
    for name in names:
        value = model.graph.initializers.pop(name, None)
        if value is not None:
            value.const_value = None
            model.graph.inputs.append(value)


def fill(model: Any, encoder: Any, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Put an encoder's nodes where a graph has :data:`~hhmnet.export.network.PLACE`.

    Args:
        model: ``onnx.ModelProto``; it is changed.
        encoder: ``onnx.GraphProto`` whose first inputs are the node's, and whose other ones are weights.
        weights: of every stream.
    """
    from onnx import NodeProto, numpy_helper

    free = [value.name for value in encoder.input if value.name in next(iter(weights.values()))]
    given = [value.name for value in encoder.input if value.name not in free]
    fixed = {constant.name: f"encoder/{constant.name}" for constant in encoder.initializer}
    nodes = []
    for node in model.graph.node:
        if (node.domain, node.op_type) != PLACE:
            nodes.append(node)
            continue
        stream = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "stream")
        names = (
            fixed | {name: f"{stream}/{name}" for name in free} | dict(zip(given, node.input, strict=True))
        )
        names |= {
            inner.name: outer for inner, outer in zip(encoder.output, node.output, strict=True) if outer
        }
        here = f"{stream}/{len(nodes)}/"  # a clip's views meet a stream's encoder one after the other
        for inner in encoder.node:
            own = NodeProto()
            own.CopyFrom(inner)
            own.name = here + inner.name
            own.input[:] = [value and names.get(value, here + value) for value in inner.input]
            own.output[:] = [value and names.get(value, here + value) for value in inner.output]
            nodes.append(own)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for constant in encoder.initializer:
        model.graph.initializer.add().CopyFrom(constant)
        model.graph.initializer[-1].name = fixed[constant.name]
    for stream, tensors in weights.items():
        arrays = {f"{stream}/{name}": tensors[name].detach().contiguous().numpy() for name in free}
        model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    kept = [entry for entry in model.opset_import if entry.domain != PLACE[0]]
    del model.opset_import[:]
    model.opset_import.extend(kept)
