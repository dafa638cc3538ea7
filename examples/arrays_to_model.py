"""From arrays of joints to a model: files CLASS/NAME.npy of shape (frames, joints, 3), in metres, y up."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from hhmnet import Recognizer
from hhmnet.config import OptimConfig, TrainConfig
from hhmnet.sample import Sample
from hhmnet.skeleton import load_layout
from hhmnet.store import Store, write_store
from hhmnet.training.engine import Trainer


def main() -> None:
    """Arrays → samples → store → model → an answer on the first array."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arrays", type=Path, help="folder with a folder of .npy files for each class")
    parser.add_argument("out", type=Path, help="folder to make, for store/ and run/")
    parser.add_argument("--layout", default="kinect20", help="what joints they are (kinect20)")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the training clips (30)")
    options = parser.parse_args()

    files = sorted(options.arrays.glob("*/*.npy"))
    classes = sorted({file.parent.name for file in files})
    samples = []
    for number, file in enumerate(files):
        joints = np.load(file).astype(np.float32)[None]  # one person: (1, T, V, 3)
        label, frames = classes.index(file.parent.name), joints.shape[1]
        present, index = np.ones((1, frames), bool), np.arange(frames, dtype=np.int32)
        name, part = f"{file.parent.name}/{file.stem}", "test" if number % 4 == 3 else "train"
        samples.append(Sample(name, label, joints, present, index, split=part))

    about = {"layout": load_layout(options.layout), "class_names": classes, "provenance": {"from": "arrays"}}
    write_store(options.out / "store", samples, protocol="given", **about)
    (options.out / "run").mkdir()
    config = TrainConfig(optim=OptimConfig(epochs=options.epochs, warmup_epochs=min(5, options.epochs / 2)))
    Trainer(config, Store(options.out / "store"), options.out / "run").train()
    recognizer = Recognizer.from_pretrained(options.out / "run")
    print(f"{samples[0].sample_id}: {recognizer.predict(samples[0]).label}")


if __name__ == "__main__":
    main()
