from __future__ import annotations

from pathlib import Path

import pytest

from hhmnet.readers import SourceError
from hhmnet.readers.labels import LabelRow, read_labels


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "labels.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_a_whole_table(tmp_path: Path) -> None:
    labels = read_labels(
        write(
            tmp_path,
            "Video, Label ,SCENE,fold,frames,group,View\n"
            "b.mp4,wave,court,0,56,ann,1\n\n"
            '"sub\\a b.mp4", nod ,,Test,1,,\n',
        )
    )
    assert labels.class_names == ("nod", "wave")
    assert labels.rows == {
        "b.mp4": LabelRow("b.mp4", 1, "ann", "1", "court", "fold0", 2),
        "sub/a b.mp4": LabelRow("sub/a b.mp4", 0, "", "", "", "test", 4),
    }
    assert labels["b.mp4"].label == 1
    assert "b.mp4" in labels.rows
    assert "c.mp4" not in labels.rows
    assert labels.headings == {
        "path": "Video",
        "label": "Label",
        "subject": "group",
        "camera": "View",
        "setup": "SCENE",
        "split": "fold",
    }


def test_it_says_what_it_understood(tmp_path: Path) -> None:
    rows = "".join(f"{i}.mp4,c{i % 9},s{i}\n" for i in range(10))
    lines = read_labels(write(tmp_path, f"path,label,subject\n{rows}")).describe()
    assert lines == [
        "labels.csv: 10 clips, 9 classes (c0, c1, c2, c3, c4, c5, c6, c7, …)",
        "columns: path → path, label → label, subject → subject",
        "subject: 10 different",
    ]


@pytest.mark.parametrize(
    ("labels", "names"),
    [("10 9 2", ("2", "9", "10")), ("b a 10", ("10", "a", "b")), ("Ab ab", ("Ab", "ab"))],
)
def test_order_of_the_classes(tmp_path: Path, labels: str, names: tuple[str, ...]) -> None:
    rows = "".join(f"{i}.mp4,{label}\n" for i, label in enumerate(labels.split()))
    assert read_labels(write(tmp_path, f"path,label\n{rows}")).class_names == names


def test_an_empty_label_is_unknown(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path, "path,label\na.mp4,\nb.mp4,wave\n"))
    assert labels["a.mp4"].label == -1
    assert labels.class_names == ("wave",)


@pytest.mark.parametrize(
    ("split", "parts"), [("2", "fold2"), ("TRAIN", "train"), ("xsub_train  Val", "xsub_train val"), ("", "")]
)
def test_parts(tmp_path: Path, split: str, parts: str) -> None:
    assert read_labels(write(tmp_path, f"path,label,split\na,b,{split}\n"))["a"].split == parts


def test_a_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path, b"\xef\xbb\xbfpath,label\r\na.mp4,wave\r\nb.mp4,nod\r\n"))
    assert list(labels.rows) == ["a.mp4", "b.mp4"]
    assert labels["b.mp4"].line == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: no column 'path' (path or video or file); its headings: none"),
        ("name,label\na,b\n", "line 1: no column 'path' (path or video or file); its headings: name, label"),
        ("path,subject\na,b\n", "line 1: no column 'label'"),
        ("path,label,video\na,b,c\n", "line 1: columns 'path' and 'video' say the same"),
        ("path,label\n", "lists no clips"),
        ("path,label\na,b\nc\n", "line 3: has 1 columns, the heading names more"),
        ("path,label\na,b\n\na,c\n", "line 4: 'a' stands in line 2 already"),
        ("path,label\n./a,b\na,c\n", "line 3: 'a' stands in line 2 already"),
        ("path,label\n,b\n", "line 2: column 'path': '' must be a path inside the source folder"),
        ("path,label\n../a,b\n", "line 2: column 'path': '../a' must be a path inside"),
        ("path,label\n/a,b\n", "line 2: column 'path': '/a' must be a path inside"),
        ("path,label\nC:\\a,b\n", "line 2: column 'path': 'C:\\a' must be a path inside"),
        (b"path,label\na,b\nc,\xff\n", "line 3: not UTF-8 text; save it as CSV in UTF-8"),
        ('path,label\n"a,b\n', "not a CSV table"),
        ('path,label\n"a"x,b\n', "line 2: not a CSV table"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path: Path, text: str | bytes, reason: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SourceError) as caught:
        read_labels(file)
    assert str(caught.value).startswith(str(file))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"labels\.csv: No such file.*should list the clips"):
        read_labels(tmp_path / "labels.csv")
