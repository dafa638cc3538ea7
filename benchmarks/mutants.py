"""Puts small faults into modules, one at a time, and tells which of them no test notices.

``python benchmarks/mutants.py src/hhmnet/losses.py``: the tests that run through a fault's line are run, those of
the module's own test file first, until one fails. Each fault is tried in a fork of a process that has imported the
libraries, on a copy of the repository, so that neither torch's import nor an edit in the meantime costs anything.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mutations import Mutant, mutants_of

OWN = (
    "hhmnet",
    "test_",
    "made_",
    "conftest",
    "plain_",
    "coverage",
    "torch._inductor",
    "_pytest",
    "mutations",
)
MEMORY = 24 << 30
"""Bytes that a trial may reserve."""


class Selection:
    """A pytest plugin that runs the chosen tests in their order, and notes what each costs."""

    def __init__(self, chosen: list[str] | None = None, switch: Callable[[str], None] | None = None) -> None:
        self.chosen, self.switch = chosen, switch
        self.seconds: Counter[str] = Counter()
        self._began = 0.0
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the chosen tests only, in their order."""
        if self.chosen is not None:
            known = {item.nodeid: item for item in items}
            items[:] = [known[name] for name in self.chosen if name in known]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell that a test begins."""
        self._began = time.process_time()
        if self.switch:
            self.switch(nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note what a test cost. It is the processor's time: on a busy machine the clock's tells of the others."""
        self.seconds[nodeid] += time.process_time() - self._began

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note which fail."""
        if report.failed:
            self.failed.append(report.nodeid)


def in_fork(work: Callable[[], int], limit: float, log: Path) -> int | None:
    """Exit status of ``work`` in a process group of its own; None where it was ended after ``limit`` seconds."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.setsid()
            with open(log, "w") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            status = int(work())
        finally:
            os._exit(status)
    end = time.monotonic() + limit
    try:
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
    finally:
        _end_group(child)
    os.waitpid(child, 0)
    return None


def _end_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


class Bench:
    """A copy of the repository in which modules are broken and tests are run."""

    def __init__(self, source: Path, copy: Path) -> None:
        self.copy, self.scratch = copy / "repository", copy
        listed = ["git", "-C", str(source), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listed, capture_output=True, check=True, text=True).stdout.split("\0"):
            if name and (source / name).is_file():
                target = self.copy / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, target)
        os.environ["PYTHONPATH"] = str(self.copy / "src")
        os.chdir(self.copy)

    def _pytest(self, tests: Iterable[str], plugin: Selection, *more: str) -> int:
        sys.path.insert(0, str(self.copy / "src"))
        base = self.scratch / "tmp"
        options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov", "--basetemp", str(base), *more]
        return int(pytest.main([*options, *tests], plugins=[plugin]))

    def baseline(self, files: list[str], tests: list[str]) -> dict[str, Any]:
        """Run tests on the sound modules: seconds of each test, tests through each line, modules imported.

        Raises:
            SystemExit: where one fails.
        """
        answer = self.scratch / "baseline.json"

        def work() -> int:
            import coverage

            cover = coverage.Coverage(
                data_file=None, include=[str(self.copy / f) for f in files], config_file=False
            )
            cover.start()
            plugin = Selection(switch=cover.switch_context)
            code = self._pytest(tests, plugin)
            cover.stop()
            data = cover.get_data()
            lines = {f: data.contexts_by_lineno(str(self.copy / f)) for f in files}
            names = [name for name in sys.modules if not name.startswith(OWN)]
            answer.write_text(json.dumps({"seconds": plugin.seconds, "lines": lines, "modules": names}))
            return code

        if in_fork(work, 1800, self.scratch / "log") != 0:
            raise SystemExit(
                (self.scratch / "log").read_text()[-3000:] + "\nthe tests fail without any fault"
            )
        found: dict[str, Any] = json.loads(answer.read_text())
        for name in found["modules"]:
            if name != "__main__":
                with suppress(Exception):
                    importlib.import_module(name)
        return found

    def attempt(self, file: str, text: str, chosen: list[str], limit: float) -> tuple[str, str]:
        """Run ``chosen`` with ``text`` in the place of ``file``: the verdict, and the test that gave it.

        ``limit`` is seconds of the processor, as a busy machine may take many times as long.
        """
        sound = (self.copy / file).read_text()
        answer = self.scratch / "failed"
        answer.write_text("")

        def work() -> int:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit)))
            plugin = Selection(chosen)
            code = self._pytest(dict.fromkeys(name.split("::")[0] for name in chosen), plugin, "-x")
            answer.write_text("".join(plugin.failed[:1]))
            return code

        # A cached form of the sound module could be taken for the broken one's: same size, same second.
        for cached in (self.copy / file).parent.glob(f"__pycache__/{Path(file).stem}.*.pyc"):
            cached.unlink()
        (self.copy / file).write_text(text)
        try:
            code = in_fork(work, 60 + 20 * limit, self.scratch / "log")
        finally:
            (self.copy / file).write_text(sound)
        if code in (None, -signal.SIGXCPU, -signal.SIGKILL):
            return "killed", "time limit"
        return ("survived", "") if code == 0 else ("killed", answer.read_text() or f"exit {code}")


def choose_tests(mutant: Mutant, file: str, found: dict[str, Any], most: float) -> list[str]:
    """The tests through a fault's lines, the module's own first, the quick before the slow, ``most`` seconds in all.

    Lines that run on import, and those that no test of this process reaches, are for every test.
    """
    lines, seconds = found["lines"][file], found["seconds"]
    names = {
        name for line in range(mutant.first, mutant.last + 1) for name in lines.get(str(line), ()) if name
    }
    own = f"test_{Path(file).stem}"
    ordered = sorted(names or seconds, key=lambda name: (own not in name.split("::")[0], seconds[name], name))
    chosen, total = [], 0.0
    for name in ordered:
        if total + seconds[name] <= most:
            chosen.append(name)
            total += seconds[name]
    return chosen or ordered[:1]


def mirrored(file: str) -> str:
    """Where a module's tests are: the folder that mirrors its own, or the one file of a module of the top."""
    inner = Path(file).relative_to("src/hhmnet")
    return f"tests/test_{inner.name}" if len(inner.parts) == 1 else str(Path("tests") / inner.parts[0])


def _change(shown: str) -> str:
    """What was changed, wherever it stands by now."""
    return shown.partition(": ")[2]


def main() -> int:
    """Try the faults of the modules that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", help="modules, from the repository's root")
    parser.add_argument("--tests", nargs="+", help="test files or folders (those that mirror the modules)")
    parser.add_argument("--sample", type=int, help="try so many faults of each module, drawn at random (all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument("--seconds", type=float, default=12, help="of tests for one fault at the most (12)")
    parser.add_argument("--again", type=Path, help="only the survivors that this file of --json tells of")
    parser.add_argument("--json", type=Path, help="write every fault and its verdict here, a line each")
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "", "MPLBACKEND": "Agg"}
    before = args.again.read_text().splitlines() if args.again else []
    wanted = {(r["file"], _change(r["shown"])) for r in map(json.loads, before) if r["verdict"] == "survived"}
    root = Path.cwd()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that whoever is being tried ends too
    record = open(args.json.absolute(), "w") if args.json else None  # noqa: SIM115
    tests = args.tests or list(dict.fromkeys(map(mirrored, args.files)))
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        bench = Bench(root, Path(scratch).resolve())
        found = bench.baseline(args.files, tests)
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        print("| module | faults | tried | killed | survived |\n|---|---|---|---|---|", flush=True)
        for file in args.files:
            text = (bench.copy / file).read_text()
            every = mutants_of(text)
            tried = every
            if args.sample and args.sample < len(every):
                places = sorted(random.Random(args.seed).sample(range(len(every)), args.sample))
                tried = [every[place] for place in places]
            if args.again:
                tried = [mutant for mutant in every if (file, _change(mutant.shown(text))) in wanted]
            verdicts: Counter[str] = Counter()
            survivors = []
            for mutant in tried:
                chosen = choose_tests(mutant, file, found, args.seconds)
                limit = 10 + 5 * sum(found["seconds"][name] for name in chosen)
                began = time.monotonic()
                verdict, by = bench.attempt(file, mutant.applied(text), chosen, limit)
                verdicts[verdict] += 1
                shown = mutant.shown(text)
                if verdict == "survived":
                    survivors.append(shown)
                if record:
                    row = {"file": file, "kind": mutant.kind, "shown": shown, "verdict": verdict, "by": by}
                    row |= {"tests": len(chosen), "seconds": round(time.monotonic() - began, 2)}
                    record.write(json.dumps(row) + "\n")
                    record.flush()
            counts = (len(every), len(tried), verdicts["killed"], verdicts["survived"])
            print(f"| `{file}` | {' | '.join(map(str, counts))} |", flush=True)
            for line in survivors:
                print(f"survived {file}:{line}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
