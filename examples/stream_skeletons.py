"""Answer while it happens: the skeletons of a store's clip are pushed frame by frame, as a sensor would give them."""

from __future__ import annotations

import argparse
from pathlib import Path

from hhmnet.predict.live import LivePrediction, StreamingConfig, StreamingRecognizer
from hhmnet.store import Store


def show(answer: LivePrediction) -> None:
    """Print an answer; there is none until somebody has been there for half the window."""
    if answer.label is not None:
        print(f"{answer.time:5.2f} s  {answer.label}, {answer.probabilities.max():.0%}")


def main() -> None:
    """Push each frame; an answer comes back every few frames, about the seconds before it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="run folder, or a folder of zoo/")
    parser.add_argument("store", type=Path, help="folder of a store with the model's joints")
    parser.add_argument("sample", help="name of one of its clips, such as a01_s01_e00_v01")
    options = parser.parse_args()

    store = Store(options.store)
    clip = store.sample(store.index(options.sample))
    config = StreamingConfig(window=1.0, every=10, rate=30)
    recognizer = StreamingRecognizer.from_pretrained(options.model, config=config)
    for frame in range(clip.num_frames):
        bodies = clip.joints[:, frame]  # (M, V, C); None where nobody is there
        answer = recognizer.push_skeleton(bodies if clip.present[:, frame].any() else None, frame / 30)
        if answer is not None:
            show(answer)
    show(recognizer.answer())  # now, whether one is due or not


if __name__ == "__main__":
    main()
