"""Train two streams of skeletons on a store that `hhmnet prepare` made, and measure them on its test clips."""

from __future__ import annotations

import argparse
from pathlib import Path

from hhmnet.config import OptimConfig, TrainConfig
from hhmnet.data.protocols import get_protocol
from hhmnet.data.transform import DataConfig
from hhmnet.evaluation.metrics import evaluate
from hhmnet.evaluation.scores import score
from hhmnet.store import Store
from hhmnet.training.engine import Hooks, Trainer
from hhmnet.training.logs import EpochLog


def show(log: EpochLog) -> None:
    """Print a line an epoch; the training itself prints nothing."""
    print(f"epoch {log.epoch}: loss {log.loss:.3f}, {log.accuracy:.1f} % of the training clips right")


def main() -> None:
    """Train into a run folder, which every command and `hhmnet.from_pretrained` can read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="folder of the store")
    parser.add_argument("out", type=Path, help="run folder to make")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the training clips (30)")
    options = parser.parse_args()

    # These are the fields of a recipe in configs/; what isn't named keeps its default.
    config = TrainConfig(
        data=DataConfig(stream="joint+joint_motion", frames=32),
        optim=OptimConfig(epochs=options.epochs, warmup_epochs=min(5, options.epochs / 2)),
    )
    store = Store(options.store)
    options.out.mkdir(parents=True)
    model = Trainer(config, store, options.out, Hooks(on_epoch=show)).train()

    rows = get_protocol(store.protocol).indices(store, "test")
    figures = evaluate(score(model.cpu(), store, rows))
    low, high = figures["top1_interval"]
    print(f"{figures['top1']:.1f} % of {figures['n']} clips right; 95 % interval {low:.1f} to {high:.1f}")


if __name__ == "__main__":
    main()
