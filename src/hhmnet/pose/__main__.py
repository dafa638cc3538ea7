"""``python -m hhmnet.pose fetch``: fetch the networks, so that nothing needs the internet afterwards."""

from __future__ import annotations

import argparse
import sys

from hhmnet.pose.networks import NETWORKS, PoseError, fetch_models

if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m hhmnet.pose", description=__doc__)
    parser.add_argument("command", choices=["fetch"], help="fetch the networks that find joints in videos")
    parser.parse_args()
    try:
        for name, file in fetch_models().items():
            print(f"{name:10} {file}  {NETWORKS[name].about}")
    except PoseError as error:
        print(f"hhmnet.pose: error: {error}", file=sys.stderr)
        sys.exit(2)
