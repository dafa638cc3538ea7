"""``hhmnet enroll``: a trained model and a few examples a class → a model of these classes."""

from __future__ import annotations

import sys
from pathlib import Path

from hhmnet.commands.flags import Flags, names_in
from hhmnet.commands.terminal import Parser, console, counting, print_json, table
from hhmnet.data.dataset import clip_length
from hhmnet.data.protocols import get_protocol
from hhmnet.files import locked, made
from hhmnet.models.hub import find_model
from hhmnet.models.pretrained import from_pretrained
from hhmnet.models.spec import USUAL_RATE
from hhmnet.pose.estimate import PoseConfig
from hhmnet.predict.engines import choose_device
from hhmnet.predict.enroll import (
    check_names,
    enrolled,
    find_examples,
    load_examples,
    read_examples,
    save_examples,
)
from hhmnet.predict.sources import InputError, Sources
from hhmnet.readers.arrays import ArrayConfig
from hhmnet.store import SAMPLES_FILE, Store


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    flags = Flags("hhmnet enroll", PoseConfig, ArrayConfig)
    parser = _parser(flags)
    options, rest = parser.parse_known_args(words)
    log = console()
    pose, arrays = flags.read(rest, parser.names)
    model = from_pretrained(options.model, choose_device(options.device), all_heads=True)
    old = load_examples(find_model(options.model), model.spec.class_names) if options.add else None
    if (options.out / "config.json").exists():
        raise InputError(f"{options.out}: holds a model already; name another folder")
    persons = model.spec.data.persons
    if "persons" not in names_in(rest):
        pose.persons = persons
    sources = Sources(model.spec.layout, pose, arrays=arrays, persons=persons)
    inputs = find_examples(options.examples, log.print)
    if old is not None:
        anew = "rename one, or give all its examples at once, without --add"
        check_names((*old.class_names, *inputs), anew)
    protocol, rate = "", USUAL_RATE
    if (options.examples / SAMPLES_FILE).is_file():
        store = Store(options.examples)
        protocol = "" if old else store.protocol
        rate = clip_length(store, get_protocol(store.protocol).indices(store, "train"))[1] or rate
    with made(options.out), locked(options.out, "enrolling"):
        with counting(log, "reading", "clips") as progress:
            examples, failed = read_examples(
                model, sources, inputs, progress, log.print, fewest=1 if old else 2, rate=rate
            )
        for error in failed.values():
            print(f"hhmnet enroll: left out: {error}", file=sys.stderr)
        examples = examples if old is None else old.joined(examples)
        new, head = enrolled(model, examples, protocol)
        save_examples(examples, options.out)
        new.save_pretrained(options.out)
    right, counts = head.held_out.argmax(1) == examples.labels, {}
    for label, name in enumerate(examples.class_names):
        own = examples.labels == label
        counts[name] = [int(own.sum()), int(right[own].sum())]
    if options.json:
        print_json({"out": str(options.out), "classes": counts, "left_out": failed})
        return 0
    rows = [(name, *map(str, numbers)) for name, numbers in counts.items()]
    console(stderr=False).print(
        table("each example by the others", "class", ">examples", ">right", rows=rows)
    )
    if model.spec.heterogeneous is not None:
        log.print("its video network isn't part of the new model, which looks at skeletons alone")
    log.print(f"the model is in {options.out}; ask it with: hhmnet predict {options.out} VIDEO")
    return 0


def _parser(flags: Flags) -> Parser:
    parser = Parser(
        "hhmnet enroll",
        "Make a model of your own classes from a few examples of each.",
        flags.format_help,
        usage="hhmnet enroll MODEL --examples DIR --out NEW [options] [--field value ...]",
    )
    parser.add_shared("model")
    add = parser.add_argument
    examples = "a folder for each class, with three or more videos or skeleton files; or a store"
    add("--examples", type=Path, required=True, metavar="DIR", help=examples)
    add("--out", type=Path, required=True, metavar="NEW", help="folder of the new model")
    add("--add", action="store_true", help="add these classes to MODEL's, which hhmnet enroll made")
    parser.add_shared("json", "device")
    return parser
