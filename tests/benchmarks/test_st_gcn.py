from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from hhmnet.benchmarks.st_gcn import STGCN, GraphConvolution, spatial_partition
from hhmnet.skeleton import KINECT20, NTU25, SkeletonLayout

LAYOUTS = pytest.mark.parametrize("layout", [KINECT20, NTU25], ids=lambda layout: layout.name)


def bones_to_the_root(layout: SkeletonLayout, joint: int) -> int:
    count = 0
    while layout.parents[joint] != joint:
        joint, count = int(layout.parents[joint]), count + 1
    return count


def plain_partition(layout: SkeletonLayout) -> np.ndarray:
    """Equation 8 of the paper, pair by pair."""
    joints = range(layout.num_joints)
    bones = {frozenset(edge) for edge in layout.edges}
    found = np.zeros((3, layout.num_joints, layout.num_joints))
    for j in joints:
        neighbours = [i for i in joints if i == j or frozenset((i, j)) in bones]
        for i in neighbours:
            near, far = bones_to_the_root(layout, j), bones_to_the_root(layout, i)
            part = 0 if near == far else 1 if near < far else 2
            found[part, i, j] = 1 / len(neighbours)
    return found


@LAYOUTS
def test_partition(layout: SkeletonLayout) -> None:
    found = spatial_partition(layout)
    np.testing.assert_allclose(found, plain_partition(layout), atol=1e-7)
    # What a joint gives away adds up to one; a tree has no neighbours that are equally far from its root.
    np.testing.assert_allclose(found.sum((0, 1)), 1, atol=1e-6)
    assert (found[0] == np.diag(np.diag(found[0]))).all()


def test_graph_convolution_is_the_sum_over_parts_and_neighbours(chain: SkeletonLayout) -> None:
    torch.manual_seed(0)
    layer = GraphConvolution(3, 4, spatial_partition(chain)).double()
    torch.nn.init.normal_(layer.importance)
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    weight = layer.transform.weight.detach().view(3, 4, 3)  # part, out, in
    bias = layer.transform.bias.detach().view(3, 4)
    graph = torch.from_numpy(plain_partition(chain)) * layer.importance.detach()
    wanted = torch.zeros(2, 4, 6, 5, dtype=torch.float64)
    for part in range(3):
        for i in range(5):
            for j in range(5):
                moved = torch.einsum("bct,oc->bot", x[..., j], weight[part]) + bias[part][:, None]
                wanted[..., i] += graph[part, i, j] * moved
    torch.testing.assert_close(layer(x), wanted, atol=1e-6, rtol=1e-6)  # the graph itself is float32


@LAYOUTS
def test_number_of_weights(layout: SkeletonLayout) -> None:
    """Written out: ten units of 64 to 256 channels, three parts, nine taps; the first without a shortcut."""
    joints, classes, total = layout.num_joints, 60, 0
    widths = (3, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
    for width_in, width in itertools.pairwise(widths):
        total += 3 * joints**2 + 3 * width * (width_in + 1)  # importance; graph convolution
        total += width * (9 * width + 1) + 2 * 2 * width  # temporal convolution; two norms
        if width_in not in (3, width):
            total += width * (width_in + 1) + 2 * width  # shortcut and its norm
    total += 2 * 3 * joints + (256 + 1) * classes
    assert sum(weight.numel() for weight in STGCN(layout, classes).parameters()) == total


def test_shapes_persons_and_gradients() -> None:
    torch.manual_seed(0)
    model = STGCN(KINECT20, 7)
    x = torch.randn(2, 3, 18, 20, 2)
    frames: list[int] = []
    for unit in model.units:
        unit.register_forward_hook(lambda module, inputs, output: frames.append(output.shape[2]))
    logits = model(x)
    assert logits.shape == (2, 7)
    assert frames == [18] * 4 + [9] * 3 + [5] * 3
    logits.sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(x), model(x.flip(4)), atol=1e-5, rtol=1e-4)
        alone = model(x[..., :1])
        torch.testing.assert_close(model(x[..., [0, 0]]), alone, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(model(x), alone, atol=1e-3)


def test_residual_units_add_what_came_in() -> None:
    model = STGCN(KINECT20, 5).eval()
    x = torch.rand(1, 64, 6, 20)
    unit = model.units[1]
    torch.nn.init.zeros_(unit.temporal[3].weight)  # the last norm silences the branch
    torch.testing.assert_close(unit(x), x)
    first = model.units[0]
    torch.nn.init.zeros_(first.temporal[3].weight)
    assert not first(torch.rand(1, 3, 6, 20)).any()
