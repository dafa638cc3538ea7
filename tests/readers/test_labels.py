"""Tables of labels: as Excel and people write them, their words for parts, their faults, and who is held out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hhmnet.readers import SourceError
from hhmnet.readers.labels import LabelRow, hold_out, read_labels, split_of

CLIPS = [f"c{number}.npy" for number in range(4)]
LABELS = ["winken", "drücken", "wave, two hands", 'say "hi"']


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "labels.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_a_whole_table(tmp_path: Path) -> None:
    lines = (
        "\ufeffVideo, Label ,SCENE,fold,frames,group,View",
        "b.mp4,wave,court,0,56,ann,1",
        "",
        '"sub\\a b.mp4", nod ,,Test,1,,',
        "c.mp4,,,xsub_train  Val,,,",
    )
    labels = read_labels(write(tmp_path, "\r\n".join(lines)))
    assert labels.class_names == ("nod", "wave")
    assert labels.rows == {
        "b.mp4": LabelRow("b.mp4", 1, "ann", "1", "court", "fold0", 2),
        "sub/a b.mp4": LabelRow("sub/a b.mp4", 0, "", "", "", "test", 4),
        "c.mp4": LabelRow("c.mp4", -1, "", "", "", "xsub_train val", 5),
    }
    lines = labels.describe()
    columns = "Video → path, Label → label, group → subject, View → camera, SCENE → setup, fold → split"
    assert lines[:2] == ["labels.csv: 3 clips, 2 classes (nod, wave)", f"columns: {columns}"]
    assert {"columns not used: frames", "split: 3 different (fold0, test, xsub_train val)"} <= set(lines)


def cells(separator: str, end: str = "\r\n", head: str = "") -> str:
    quoted = [f'"{label.replace(chr(34), chr(34) * 2)}"' for label in LABELS]
    rows = zip(CLIPS, quoted, ("Training", "train", "TEST", "testing"), strict=True)
    return head + end.join(map(separator.join, [("path", "label", "split"), *rows, ()]))


@pytest.mark.parametrize(
    "content",
    [
        cells(",").encode(),
        cells(";", "\n").encode("utf-8-sig"),
        cells("\t").encode("utf-16"),
        cells(";", head="sep=;\r\n").encode(),
        cells(",", head="sep=,\r\n").encode("cp1252"),
        cells(",", ",,\r\n").encode(),
    ],
    ids=["plain", "semicolons", "UTF-16 with tabs", "sep=;", "cp1252", "empty cells at the end"],
)
def test_a_table_as_excel_and_people_write_it(tmp_path: Path, content: bytes) -> None:
    labels = read_labels(write(tmp_path, content))
    assert [labels.class_names[labels.rows[clip].label] for clip in CLIPS] == LABELS
    assert [labels.rows[clip].split for clip in CLIPS] == ["train", "train", "test", "test"]
    is_guess = "ü".encode() not in content and b"\0" not in content
    assert any("read as cp1252" in line for line in labels.describe()) == is_guess


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ("10 9 2", ("2", "9", "10")),
        ("b a 10", ("10", "a", "b")),
        ("Ab ab", ("Ab", "ab")),
        ("9" * 5000 + " 1", ("1", "9" * 5000)),  # int() takes 4,300 digits
    ],
)
def test_order_of_the_classes(tmp_path: Path, labels: str, names: tuple[str, ...]) -> None:
    rows = "".join(f"{i}.mp4,{label}\n" for i, label in enumerate(labels.split()))
    assert read_labels(write(tmp_path, f"path,label\n{rows}")).class_names == names


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: no column 'path' (path or video or file); its headings: none"),
        ("path,label,video\na,b,c\n", "line 1: columns 'path' and 'video' say the same"),
        ("path,label\n", "lists no clips"),
        ("path,label\na,b\nc\n", "line 3: has 1 columns, the heading names more"),
        ("path,label\na,b\nc,d, e\n", "line 3: has 3 cells, and there are 2 headings; put a text that"),
        ("path,label\n./a,b\n\na,c\n", "line 4: 'a' stands in line 2 already"),
        ("path,label\n../a,b\n", "line 2: column 'path': '../a' must be a path inside"),
        ("path,label\nC:\\a,b\n", "line 2: column 'path': 'C:\\a' must be a path inside"),
        *((f"path,label\n{long},b\n", "line 2: column 'path'") for long in ("x" * 300, "y" * 5000 + "/a")),
        ("path,label\na,b\nc,-1\n", "line 3: column 'label': does -1 say that the label isn't known, or"),
        ("path,label,split\na,x,Train\nb,x,tets\n", "line 3: column 'split': 'tets' names no part; known:"),
        ("path,start,end,label\na,5,5,x\n", "line 2: column 'end': must be above the start, 5; got 5"),
        ("path,start,end,label\na,x,5,x\n", "column 'start': must be frames or seconds from 0; got 'x'"),
        ("path,start_frame,end_seconds,label\na,1,5,x\n", "one counts frames and the other seconds"),
        ("path,persons,label\na,none,x\n", "column 'persons': must be a whole number from 1; got 'none'"),
        (b"path,label\na,b\nc,\x81\n", "line 3: not UTF-8 text (byte 17); save it as CSV in UTF-8"),
        (b"path,label\na,b\nc,\0\n", "line 3: not text: it holds zero bytes"),
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
    assert len(str(caught.value)) < 600, "what quotes a file is shortened"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("train Training TRAIN", "train"),
        ("val valid Validation DEV", "val"),
        ("test Testing", "test"),
        ("xsub_train xsub-Training", "xsub_train"),
        ("train1 training1", "train1"),
        ("2 fold2 Fold_2", "fold2"),
        ("trainval all set", ""),
    ],
)
def test_one_vocabulary_of_parts(words: str, part: str) -> None:
    for word in words.split():
        if part:
            assert split_of(word) == part
        else:
            with pytest.raises(SourceError, match=f"'{word}' names no part; known: train"):
                split_of(word)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["1", "2", "3", "4"], ["4"]),
        ([str(n) for n in range(1, 13)], ["12", "4", "8"]),  # counted as numbers: 4, 8, 12
        (["p1", "p2", "p10"], ["p10"]),
        (["p1", "p" + "9" * 5000], ["p" + "9" * 5000]),  # int() takes 4,300 digits
        (["ann", "bob", ""], ["bob"]),
    ],
)
def test_every_fourth_group_is_tested_whole(groups: list[str], expected: list[str]) -> None:
    clips = {f"clip{n}": group for n, group in enumerate(groups * 2)}
    split, rule = hold_out(clips)
    assert list(split.values()).count("test") == 2 * len(expected)
    assert sorted({clips[clip] for clip, part in split.items() if part == "test"}) == expected
    assert ("2 clips have no subject or group; they train" in rule) == ("" in groups)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=50, unique=True), st.text(min_size=1))
def test_without_groups_a_clip_stays_where_it_is(clips: list[str], other: str) -> None:
    split, rule = hold_out(dict.fromkeys(clips, ""))
    more, _ = hold_out(dict.fromkeys([*clips, other], ""))
    assert all(more[clip] == part for clip, part in split.items())
    assert "the same persons may be in training and test" in rule
    assert hold_out(dict.fromkeys(clips, "ann"))[0] == split
