from __future__ import annotations

from pathlib import Path

import pytest

from hhmnet.pose import estimate
from hhmnet.predict.recognizer import Recognizer
from hhmnet.prepare import prepare
from hhmnet.readers import get_reader
from hhmnet.readers.nw_ucla import NWUCLAConfig
from hhmnet.store import Store, write_video_folder
from hhmnet.synthetic import generate
from made_models import skeleton_model, video_model
from made_ntu import put
from made_people import BoxEstimator, KnowingDetector, straight

PLAYER = straight((100, 130), (0.8, 0), (60, 140))


@pytest.fixture(scope="session")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Six clips of the sample data with their videos; only for reading."""
    folder = tmp_path_factory.mktemp("filmed")
    generate(folder / "raw", clips=6, videos=True)
    config = NWUCLAConfig(videos=folder / "raw/videos")
    prepare(get_reader("nw_ucla", folder / "raw", config), folder / "store")
    write_video_folder(folder / "store", config.videos)
    return Store(folder / "store")


@pytest.fixture(scope="session")
def of_skeletons() -> Recognizer:
    """Answers by skeletons alone."""
    return Recognizer(skeleton_model())


@pytest.fixture(scope="session")
def of_both() -> Recognizer:
    """Answers by skeleton and video."""
    return Recognizer(video_model())


@pytest.fixture
def made_networks(monkeypatch: pytest.MonkeyPatch) -> BoxEstimator:
    """Made networks in the place of those that find joints: one player walks through every MadeVideo."""
    estimator = BoxEstimator()
    monkeypatch.setattr(estimate, "_load_detector", lambda config: KnowingDetector(PLAYER))
    monkeypatch.setattr(estimate, "_load_estimator", lambda threads: estimator)
    return estimator


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made networks that find nobody."""
    monkeypatch.setattr(estimate, "_load_detector", lambda config: KnowingDetector())
    monkeypatch.setattr(estimate, "_load_estimator", lambda threads: BoxEstimator())


@pytest.fixture(autouse=True)
def no_old_networks(of_skeletons: Recognizer, of_both: Recognizer) -> None:
    """Each test has networks of its own, though the recognizers are shared."""
    for recognizer in (of_skeletons, of_both):
        recognizer.sources.__dict__.pop("estimator", None)


@pytest.fixture
def ntu_file(tmp_path: Path) -> Path:
    """A file in NTU's form, one person in 20 frames, with a name of its own."""
    return put(tmp_path, name="person")
