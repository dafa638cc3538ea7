"""How long the answer on one clip takes: PyTorch and onnxruntime, with preprocessing and without.

    python benchmarks/latency.py --model RUN FILE.onnx [--model RUN FILE.onnx …] [--calls 200] [--frames 60]

FILE.onnx is what ``hhmnet export RUN`` wrote. The clip is a made one, since the time doesn't depend on what is done in
it; a model with video gets crops of noise, cut already. The calls of all ways take turns, so that what else the machine
does meets them alike.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from hhmnet.benchmarks.measure import timed
from hhmnet.data.dataset import RawBatch
from hhmnet.data.transform import SkeletonBatch, choose_frames, prepare
from hhmnet.data.video_batch import prepare_video
from hhmnet.export import inputs_of, made_clips
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import ActionModel, from_pretrained
from hhmnet.predict.engines import open_session

WARM_UP = 5


def main() -> None:
    """Time every model named on the command line, and print a table."""
    parser = argparse.ArgumentParser(description="Latency of one clip, batch 1.")
    add = parser.add_argument
    add("--model", nargs=2, action="append", type=Path, required=True, metavar=("RUN", "FILE"))
    add("--calls", type=int, default=200, help="timed calls of each way (200)")
    add("--frames", type=int, default=60, help="frames of the clip (60)")
    add("--threads", type=int, default=1, help="threads of PyTorch and of onnxruntime (1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"threads {options.threads}, {options.frames} frames, load before {os.getloadavg()[0]:.1f}")
    print(f"{'':44}{'median':>9}{'p95':>9}{'least':>9}  ms")
    for run, file in options.model:
        ways = ways_of(from_pretrained(run), file.read_bytes(), options.frames, options.threads)
        for name, seconds in time_calls(ways, options.calls).items():
            middle, late = np.percentile(seconds, [50, 95])
            figures = "".join(f"{1000 * value:9.2f}" for value in (middle, late, seconds.min()))
            print(f"{f'{run.name}: {name}':44}{figures}", flush=True)


def ways_of(model: ActionModel, content: bytes, frames: int, threads: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name: each answers on the same clip."""
    spec, batch = model.spec, one_clip(model, frames)
    graph, feed = open_session(content, threads), inputs_of(spec, batch)
    sampled = choose_frames(batch.clips.lengths, spec.data)
    x, mask = prepare(batch.clips, spec.layout, spec.data, sampled=sampled)
    shown = None
    if spec.video is not None and batch.video is not None:
        shown = prepare_video(batch.video, sampled.positions, None, spec.video)

    @torch.inference_mode()
    def network() -> object:
        video = (shown,) if isinstance(model.network, HeterogeneousNetwork) else ()
        return model.network(x, mask, *video)

    @torch.inference_mode()
    def whole() -> object:
        return model.answer(batch.clips, batch.video)

    return {
        "PyTorch, from joints": whole,
        "PyTorch, network alone": network,
        "preprocessing of joints alone": lambda: prepare(
            batch.clips, spec.layout, spec.data, sampled=sampled
        ),
        "onnxruntime, from joints": lambda: graph.run(None, feed),
    }


def one_clip(model: ActionModel, frames: int) -> RawBatch:
    """A made clip of so many frames in which everybody is there, with crops for a model that looks at them."""
    batch = next(made_clips(model.spec, 1))
    shape = (frames, *batch.clips.joints.shape[1:])
    joints = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return batch._replace(clips=SkeletonBatch(joints, None, torch.tensor([frames])))


def time_calls(ways: Mapping[str, Callable[[], object]], calls: int) -> dict[str, np.ndarray]:
    """Seconds ``(calls,)`` of every way; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(WARM_UP + calls):
        for name, call in ways.items():
            taken = timed(call)
            if turn >= WARM_UP:
                seconds[name].append(taken)
    return {name: np.array(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
