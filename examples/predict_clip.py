"""Say what is done in one clip: a video, or a file with skeletons."""

from __future__ import annotations

import argparse
from pathlib import Path

from hhmnet import Recognizer


def main() -> None:
    """Clip → prediction, and what it goes by."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="run folder, or a folder of zoo/")
    parser.add_argument("clip", type=Path, help="such as clip.mp4, clip.npz, S001C001P001R001A001.skeleton")
    options = parser.parse_args()

    recognizer = Recognizer.from_pretrained(options.model)
    found = recognizer.predict(options.clip, top=3)

    print(f"{found.label}, going by {' and '.join(found.modalities)}, after {found.seconds:.2f} s")
    for label, probability in found.top:
        print(f"{probability:6.1%}  {label}")
    # What each stream of the skeleton says alone, and the video; empty for a model of one stream.
    for member, probabilities in found.members.items():
        print(f"{member}: {recognizer.class_names[probabilities.argmax()]}")
    # Why something wasn't looked at, such as a video that can't be read.
    for note in found.notes:
        print(note)


if __name__ == "__main__":
    main()
