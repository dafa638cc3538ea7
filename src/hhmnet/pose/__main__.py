"""``python -m hhmnet.pose fetch``: fetch the networks, so that nothing needs the internet afterwards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hhmnet.pose.networks import NETWORKS, PoseError, fetch_models


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the networks; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m hhmnet.pose", description="Networks that find joints in videos."
    )
    parser.add_argument(
        "command", choices=["fetch"], help="fetch them, so that nothing needs the internet afterwards"
    )
    parser.parse_args(arguments)
    try:
        for name, file in fetch_models().items():
            print(f"{name:18} {file}  {NETWORKS[name].about}")
    except (PoseError, OSError) as error:
        print(f"hhmnet.pose: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
