"""``hhmnet evaluate``: a trained model and a store → metrics and scores."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hhmnet.commands.configuration import CONFIG_FILE, read_config
from hhmnet.commands.crops import cut_crops
from hhmnet.commands.terminal import Parser, console, counting, print_json, table
from hhmnet.confidence import Confidence
from hhmnet.data.crop_cache import CropCache
from hhmnet.data.protocols import PARTS, Protocol, ProtocolError, get_protocol
from hhmnet.evaluation.figures import class_legend, draw_confusion
from hhmnet.evaluation.knock_out import answers_without, knock_out, static_share
from hhmnet.evaluation.metrics import brief, confusion, evaluate, fusion_changes, surest_mistakes, told_apart
from hhmnet.evaluation.report import headline, sections, write_report
from hhmnet.evaluation.scores import Scores, score
from hhmnet.fields import brief as brief_text
from hhmnet.files import locked, made, remove_leftovers, write_json
from hhmnet.models.hub import find_model, split_head
from hhmnet.models.pretrained import ActionModel, from_pretrained
from hhmnet.predict.engines import choose_device
from hhmnet.sample import MODALITIES
from hhmnet.skeleton import SkeletonLayout
from hhmnet.store import Store
from hhmnet.training.distributed import join, naming_the_lost, score_together

METRICS_FILE, SCORES_FILE = "metrics.json", "scores.parquet"
CONFUSION_FILE, REPORT_FILE = "confusion.png", "report.html"


class EvaluationError(ValueError):
    """A model and a store that don't go together, or no clips."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = vars(_parser().parse_args(words))
    run, data, as_json = (options.pop(name) for name in ("model", "data", "json"))
    group = join(options["device"] == "cpu")
    log = console() if group.is_main else Console(quiet=True)
    with group.together():
        store = Store(data)
    metrics, out = evaluate_run(run, store, **options, log=log)
    group.leave()
    if not group.is_main:
        return 0
    if as_json:
        print_json(metrics)
    elif metrics["n"]:
        shown = console(stderr=False)
        for section in sections(metrics):
            shown.print(table(section.title, *section.columns, rows=section.rows))
            shown.print(section.note)
        shown.print(f"{run} on {metrics['store']}, {metrics['split']}: {headline(metrics)}")
    report = f" and {REPORT_FILE}" if metrics["n"] else "; no clip has a label, so there is no top-1"
    log.print(f"{out} holds {METRICS_FILE}, {SCORES_FILE}{report}")
    if legend := class_legend(list(metrics.get("per_class", []))):
        log.print(legend)
    return 0


def _parser() -> Parser:
    parser = Parser("hhmnet evaluate", "Measure a trained model on a store.")
    parser.add_shared("model")
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="STORE", help="store that `hhmnet prepare` made")
    add("--split", default="test", choices=PARTS, help="clips to measure (default: test)")
    add("--fold", type=int, metavar="K", help="fold that val and train go by (default: the model's own)")
    rule = "rule that splits the clips (default: the model's where STORE has its test clips, else the store's own)"
    add("--protocol", metavar="NAME", help=rule)
    out = "folder for the results (default: MODEL/eval-SPLIT, of several heads MODEL/eval-SPLIT-HEAD)"
    add("--out", type=Path, metavar="DIR", help=out)
    parts = "take the model's parts away one at a time, and say how many clips that costs"
    add("--knock-out", dest="parts", action="store_true", help=parts)
    other = "also measure how well clips of this store, which are none of the classes, are told from those measured"
    add("--unknown", type=Path, metavar="STORE", help=other)
    parser.add_shared("videos", "json", "device")
    return parser


def evaluate_run(
    run: Path,
    store: Store,
    *,
    split: str = "test",
    fold: int | None = None,
    protocol: str | None = None,
    out: Path | None = None,
    device: str = "auto",
    videos: Path | None = None,
    parts: bool = False,
    unknown: Path | None = None,
    log: Console,
) -> tuple[dict[str, Any], Path]:
    """Measure a model on one split of any store of its skeleton; classes are matched by name.

    Writes ``metrics.json`` and ``scores.parquet``, and where a clip has a label a confusion matrix and a report. Of
    several processes that ``torchrun`` started, all call it and score a share of the clips; the first one writes, and
    the others get no metrics.

    Returns the metrics, and the folder they are in; without labels ``n`` is 0, and there is no ``top1``.
    ``only_in_model`` and ``only_in_store`` (with the number of clips, which are scored, but not measured) name the
    classes that the other side lacks. Raises EvaluationError where the store has other joints than the model, none of
    its classes, or no clips there; PretrainedError, ProtocolError; LockedError where another process writes to ``out``.
    """
    group = join(device == "cpu")
    with group.together():
        place = choose_device(device)
        named, head = split_head(run)
        folder = find_model(named)
        model = from_pretrained(f"{folder}#{head}" if head else folder, place, store)
        spec = model.spec
        check_layout(model, run, store)
        rule, fold, rows = _clips(model, store, split, fold, protocol)
        config = folder / CONFIG_FILE
        # Where another protocol splits, the clips that were relabelled may test.
        relabel = read_config(config).relabel if config.exists() and rule.name == spec.protocol else {}
        labels, lacking = _matched(model, run, store, rule.labels(store, relabel)[rows])
        others = None if unknown is None else Store(unknown)
        sure = spec.confidence.get("+".join(MODALITIES[: 1 + (spec.roi is not None)]), Confidence())
        if others is not None:
            check_layout(model, run, others)
            if sure.neighbours is None:
                raise EvaluationError(
                    f"{run}: it can't tell what is unknown, as it was trained without a fold; see field 'calibration'"
                )
        for note in _notes(model, run, store, rule, rows, lacking):
            log.print(note)
    # Of a model that isn't here, the results are: a cache is no place for them.
    results = f"eval-{split}" + (f"-{model.head_name}" if model.head_name else "")
    place_of_run = Path(named)
    out = out or (place_of_run if place_of_run.exists() else Path(place_of_run.name)) / results
    with ExitStack() as held:
        with group.together():
            if group.is_main:
                held.enter_context(made(out))
                held.enter_context(locked(out, "hhmnet evaluate"))
                remove_leftovers(out)
            if spec.roi is not None:
                videos = store.find_videos(videos)
                if group.is_main:
                    cut_crops(CropCache(config=spec.roi), store, rows, videos, log)

        def scored(modalities: Sequence[str] = MODALITIES) -> dict[str, Scores]:
            found = score_together(group, model, store, rows, place, videos, modalities)
            return {name: dataclasses.replace(scores, labels=labels) for name, scores in found.items()}

        with log.status(f"scoring {len(rows)} clips"), naming_the_lost(group):
            streams = scored()
            alone = {name: scored((name,))[""] for name in MODALITIES if spec.heterogeneous is not None}
        if not group.is_main:
            return {}, out
        whole = streams.pop("")
        whole.save(out / SCORES_FILE)
        for name, scores in streams.items():
            scores.save(out / stream_scores_file(name))
        metrics = _measured(whole, streams, alone)
        metrics |= {"split": split, "protocol": rule.name, "fold": fold, "store": store.path.resolve().name}
        metrics |= {"temperature": whole.temperature}
        metrics |= {name: classes for name, classes in lacking.items() if classes}
        if metrics["n"] and others is not None:
            with log.status(f"scoring {len(others)} clips of {unknown}"):
                strange = score(model, others, np.arange(len(others)), device=place)
            metrics["unknown"] = told_apart(whole, strange, sure)
        if metrics["n"] and parts:
            with counting(log, "without parts", "clips") as progress:
                answers = answers_without(model, store, rows, progress, device=place, videos=videos)
            metrics["knock_out"] = knock_out(answers, labels)
            metrics["static_share"] = static_share(model)
        write_json(out / METRICS_FILE, metrics)
        # Those of an earlier call may be of other clips.
        old = {*out.glob(stream_scores_file("*"))} - {out / stream_scores_file(name) for name in streams}
        for file in (out / CONFUSION_FILE, out / REPORT_FILE, *old):
            file.unlink(missing_ok=True)
        if metrics["n"]:
            draw_confusion(confusion(whole), whole.class_names, out / CONFUSION_FILE)
            title = f"{run.name} on {metrics['store']}, {split}"
            write_report(metrics, title, out / REPORT_FILE, out / CONFUSION_FILE)
    return metrics, out


def _measured(whole: Scores, streams: dict[str, Scores], alone: dict[str, Scores]) -> dict[str, Any]:
    """Metrics of all together, of each stream, and of each modality alone; ``n`` is 0 where no clip has a label."""
    if not (whole.labels >= 0).any():
        return {"n": 0}
    metrics = evaluate(whole) | {"surest_mistakes": surest_mistakes(whole)}
    if streams:
        metrics["streams"] = {name: brief(scores) for name, scores in streams.items()}
    if alone:
        metrics["modalities"] = {name: brief(scores) for name, scores in alone.items()}
        metrics["fusion"] = fusion_changes(whole, alone)
    return metrics


def stream_scores_file(stream: str) -> str:
    """Name of the score file of one stream of several."""
    return f"scores-{stream}.parquet"


def _clips(
    model: ActionModel, store: Store, split: str, fold: int | None, protocol: str | None
) -> tuple[Protocol, int | None, np.ndarray]:
    """The protocol that splits a store, its fold, and positions of the split's clips, ``(N,)``.

    The protocol is the one that is named, else the model's where the store has test clips of it, else the store's own;
    the fold is the model's where the protocol is, and none is named.
    """
    own = model.spec.protocol
    rule = get_protocol(protocol or (own if _splits(own, store) else store.protocol))
    fold = model.spec.fold if fold is None and rule.name == own else fold
    rows = rule.indices(store, split, fold)
    if len(rows) == 0:
        hint = "--split all measures all clips, --protocol names another split"
        if split == "val" and fold is None:
            hint = "val needs a fold, such as --fold 0"
        raise EvaluationError(f"{store.path}: split '{split}' of protocol {rule.name} has no clips; {hint}")
    return rule, fold, rows


def _splits(protocol: str, store: Store) -> bool:
    """Whether a protocol has test clips in a store."""
    try:
        return bool(protocol) and len(get_protocol(protocol).indices(store, "test")) > 0
    except ProtocolError:
        return False


def _matched(
    model: ActionModel, run: Path, store: Store, labels: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """Labels ``(N,)`` by the store's classes as labels by the model's, matched by name; -1 for a class it lacks.

    With them come the classes that one side lacks: ``only_in_model``, a list, and ``only_in_store``, with clips.
    """
    ours, theirs = (
        [unicodedata.normalize("NFC", name) for name in names]
        for names in (model.spec.class_names, store.class_names)
    )
    places = np.array([ours.index(name) if name in ours else -1 for name in theirs] + [-1])
    found = places[labels]  # label -1 finds the last place
    if (labels >= 0).any() and (found < 0).all():
        one, other = (brief_text(", ".join(names), 200) for names in (ours, theirs))
        raise EvaluationError(
            f"{run} and {store.path} have different classes: the model knows {one}, the store {other}; "
            "classes are matched by name"
        )
    lacking = {
        "only_in_model": [name for name in ours if name not in theirs],
        "only_in_store": {name: int((labels == i).sum()) for i, name in enumerate(theirs) if places[i] < 0},
    }
    return found, lacking


def _notes(
    model: ActionModel, run: Path, store: Store, rule: Protocol, rows: np.ndarray, lacking: dict[str, Any]
) -> Iterator[str]:
    """What a reader of the figures has to know: another split than the model's, and classes that one side lacks."""
    own = model.spec.protocol
    if own and rule.name != own:
        trained = np.isin(rows, get_protocol(own).indices(store, "train")).sum() if _splits(own, store) else 0
        clips = f", by which {trained} of these {len(rows)} clips train" if trained else ""
        yield f"clips are chosen by protocol {rule.name}; {run} was trained by {own}{clips}"
    if missing := lacking["only_in_model"]:
        yield f"{store.path} lacks {len(missing)} of the model's classes: {', '.join(missing)}"
    if unknown := lacking["only_in_store"]:
        names = ", ".join(f"{name} ({count} clips)" for name, count in unknown.items())
        yield f"{run} lacks {len(unknown)} of the store's classes, whose clips aren't measured: {names}"


def check_layout(model: ActionModel, run: Path, store: Store) -> None:
    """Raise EvaluationError, with the first difference, unless model and store have the same skeleton."""

    def facts(layout: SkeletonLayout) -> list[str]:
        return [
            f"{field} {number}: {one}"
            for field, value in layout.to_dict().items()
            for number, one in enumerate(value if isinstance(value, (list, tuple)) else [value])
        ]

    for mine, other in zip_longest(facts(model.spec.layout), facts(store.layout), fillvalue="nothing more"):
        if mine != other:
            raise EvaluationError(
                f"{run} and {store.path} have different skeletons ({model.spec.layout.name} and "
                f"{store.layout.name}): '{mine}' in the model and '{other}' in the store"
            )
