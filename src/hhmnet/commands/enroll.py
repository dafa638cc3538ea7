"""``hhmnet enroll``: a trained model and a few examples a class → a model of these classes."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from hhmnet.commands.flags import Flags, parted
from hhmnet.commands.terminal import Parser, console, counting, print_json, table
from hhmnet.files import locked
from hhmnet.models.hub import find_model
from hhmnet.models.pretrained import from_pretrained
from hhmnet.pose.estimate import PoseConfig
from hhmnet.predict.engines import choose_device
from hhmnet.predict.enroll import (
    EnrollError,
    enrolled,
    find_examples,
    load_examples,
    read_examples,
    save_examples,
)
from hhmnet.predict.sources import Sources
from hhmnet.readers.arrays import ArrayConfig

DONE = 0


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    pose, arrays = Flags(PoseConfig, "hhmnet enroll"), Flags(ArrayConfig, "hhmnet enroll")
    if "-h" in words or "--help" in words:
        print(parser.format_help())
        print(f"How joints are found in videos.\n\n{pose.format_help()}\n{arrays.format_help()}", end="")
        return DONE
    options, rest = parser.parse_known_args(words)
    log = console()
    of_arrays, of_pose = parted(rest, arrays.kinds)
    how = pose.read(of_pose, [*parser.names, *arrays.kinds]) if of_pose else None
    model = from_pretrained(options.model, choose_device(options.device), all_heads=True)
    old = load_examples(find_model(options.model), model.spec.class_names) if options.add else None
    if (options.out / "config.json").exists():
        raise EnrollError(f"{options.out}: holds a model already; name another folder")
    sources = Sources(
        model.spec.layout,
        how,
        arrays=arrays.read(of_arrays),
        persons=model.spec.data.persons,
    )
    tell = partial(log.print, soft_wrap=True)
    inputs = find_examples(options.examples, tell)
    with counting(log, "reading", "clips") as progress:
        examples, failed = read_examples(model, sources, inputs, progress, tell, fewest=1 if old else 2)
    for error in failed.values():
        print(f"hhmnet enroll: left out: {error}", file=sys.stderr)
    examples = examples if old is None else old.joined(examples)
    made, head = enrolled(model, examples)
    options.out.mkdir(parents=True, exist_ok=True)
    with locked(options.out, "enrolling"):
        save_examples(examples, options.out)
        made.save_pretrained(options.out)
    right = head.held_out.argmax(1) == examples.labels
    counts = {
        name: [int((examples.labels == label).sum()), int(right[examples.labels == label].sum())]
        for label, name in enumerate(examples.class_names)
    }
    if options.json:
        print_json({"out": str(options.out), "classes": counts, "left_out": failed})
        return DONE
    view = table("each example by the others", "class", ">examples", ">right")
    for name, (count, known) in counts.items():
        view.add_row(name, str(count), str(known))
    console(stderr=False).print(view)
    if model.spec.heterogeneous is not None:
        log.print("its video network isn't part of the new model, which looks at skeletons alone")
    log.print(
        f"the model is in {options.out}; ask it with: hhmnet predict {options.out} VIDEO", soft_wrap=True
    )
    return DONE


def _parser() -> Parser:
    parser = Parser(
        "hhmnet enroll",
        "Make a model of your own classes from a few examples of each.",
        usage="hhmnet enroll MODEL --examples DIR --out NEW [options] [--field value ...]",
        add_help=False,
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="trained model: a folder, a name of the zoo, or org/name")
    add("-h", "--help", action="store_true", help="show this help, with all fields, and leave")
    examples = "a folder for each class, with three or more videos or skeleton files; or a store"
    add("--examples", type=Path, required=True, metavar="DIR", help=examples)
    add("--out", type=Path, required=True, metavar="NEW", help="folder of the new model")
    add("--add", action="store_true", help="add these classes to MODEL's, which hhmnet enroll made")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto: a GPU if there is one")
    add("--json", action="store_true", help="print one JSON document on standard output")
    return parser
