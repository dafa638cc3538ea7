"""``hhmnet export``: a trained model → one ONNX file, compared with PyTorch before it is written."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import BatchSampler

from hhmnet.commands.evaluate import check_layout
from hhmnet.commands.terminal import Parser, console, print_json, whole
from hhmnet.data.crop_cache import CropCache
from hhmnet.data.dataset import ClipDataset, RawBatch, make_loader
from hhmnet.data.protocols import ProtocolError, get_protocol
from hhmnet.export import OPSET, TOLERANCE, Parity, made_clips, measure_parity, to_onnx
from hhmnet.files import replacing
from hhmnet.models.pretrained import ActionModel, from_pretrained
from hhmnet.store import Store

_BATCH = 8
SPLITS = ("all", "train", "test")


def main(words: list[str]) -> int:
    """Run the command; returns its exit code: 1 where the graph doesn't answer as PyTorch does."""
    parser = Parser("hhmnet export", "Write a trained model as one ONNX file that runs without PyTorch.")
    parser.add_shared("model")
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FILE.onnx", help="the file to write")
    add("--data", type=Path, metavar="STORE", help="store to compare on (default: made-up clips)")
    add("--split", choices=SPLITS, default="all", help="clips of STORE to compare on (default: all)")
    add("--clips", type=whole, default=64, metavar="N", help="clips to compare on (default: 64)")
    parser.add_shared("videos", "json")
    options, log = parser.parse_args(words), console()
    if options.out.suffix != ".onnx":
        parser.error(f"argument --out: '{options.out}' must end in .onnx")
    model = from_pretrained(options.model)
    source, batches = _clips(model, options)
    with log.status("making the graph, which takes a while"):
        content = to_onnx(model)
    with log.status(f"comparing it with PyTorch on {source}"):
        parity = measure_parity(model, content, batches)
    if parity.holds:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(options.out) as file:
            file.write(content)
    document = {
        "file": str(options.out) if parity.holds else None,
        "bytes": len(content),
        "opset": OPSET,
        "members": list(model.members),
        "compared_on": source,
        "parity": parity.to_dict(),
    }
    if options.json:
        print_json(document)
    else:
        _show(document, parity)
    if not parity.holds:
        wrong = int((parity.nearest > TOLERANCE).sum())
        log.print(
            f"hhmnet export: error: {options.out} is not written: on {wrong} of {len(parity.nearest)} clips the graph "
            f"answers otherwise than PyTorch, by up to {parity.nearest.max():.1e}"
        )
        return 1
    return 0


def _clips(model: ActionModel, options: argparse.Namespace) -> tuple[str, Iterable[RawBatch]]:
    """What to compare on, and what that is called; of a store, clips that lie evenly over what is asked for."""
    spec = model.spec
    if options.data is None:
        return f"{options.clips} made-up clips", made_clips(spec, options.clips, _BATCH)
    store = Store(options.data)
    check_layout(model, options.model, store)
    rows = get_protocol(spec.protocol or store.protocol).indices(store, options.split)
    if not len(rows):
        raise ProtocolError(f"{store.path}: split '{options.split}' has no clips to compare on")
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, options.clips).round().astype(np.int64))]
    dataset = ClipDataset(store, rows, spec.data.persons)
    if spec.roi is not None:
        dataset.cache, dataset.videos = CropCache(config=spec.roi), store.find_videos(options.videos)
    part = "" if options.split == "all" else f" ({options.split})"
    batches = make_loader(dataset, BatchSampler(range(len(rows)), _BATCH, drop_last=False))
    return f"{len(rows)} clips of {options.data}{part}", batches


def _show(document: dict[str, Any], parity: Parity) -> None:
    """File and comparison for the terminal."""
    figures, edge, tell = document["parity"], parity.on_edge, console(stderr=False).print
    kept = document["file"] or "not written"
    tell(f"file      {kept}, {document['bytes'] / 2**20:.2f} MiB, opset {document['opset']}")
    tell(f"members   {', '.join(document['members']) or 'one stream'}")
    tell(
        f"parity    {document['compared_on']}: logits differ from PyTorch's by {figures['median_difference']:.1e} "
        f"(median), {figures['largest_difference_off_edge']:.1e} (most); allowed are {TOLERANCE:.0e}"
    )
    tell(f"classes   the same on {figures['same_class']} of {figures['clips']} clips")
    if edge.any():
        tell(
            f"on edge   {int(edge.sum())} of these clips, by up to {parity.plain[edge].max():.1e}: there PyTorch's own "
            "answer jumps when the joints move by a rounding error, and the graph gives one of the answers it gives "
            f"(within {parity.nearest[edge].max():.1e})"
        )
