"""What the OpenAPI document says of the server is so: requests made from it get no 5xx, and answers that fit it."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from hostile import CLIP, Server
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

pytest.importorskip("uvicorn", reason="the extra 'serve' isn't installed")
schemathesis = pytest.importorskip("schemathesis", reason="the extra 'dev' isn't installed")

pytestmark = pytest.mark.xdist_group("serve")

GenerationMode = schemathesis.GenerationMode


def operations(server: Server) -> list[Any]:
    base = f"http://127.0.0.1:{server.port}/api/v1"
    with urllib.request.urlopen(f"{base}/openapi.json", timeout=60) as response:
        schema = schemathesis.openapi.from_dict(json.load(response))
    schema.config.update(base_url=base)
    return [result.ok() for result in schema.get_all_operations()]


def check(operation: Any, mode: Any, examples: int) -> None:
    """Make requests of one kind, and hold the answers against the document."""
    from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

    cases = operation.as_strategy(generation_mode=mode)

    @seed(1)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, whole=st.booleans())
    def every(case: Any, whole: bool) -> None:
        # That bytes are a clip is more than the document can say, and so is that stride goes with timeline.
        excluded = [positive_data_acceptance]
        if whole and mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and "file" in case.body:
            case.body = {**case.body, "file": CLIP}  # chance makes no clip
            excluded.append(negative_data_rejection)  # a body that was changed by hand counts as invalid
        case.call_and_validate(excluded_checks=excluded)

    every()


def examine(server: Server, examples: int) -> None:
    found = operations(server)
    assert {operation.label for operation in found} == {
        "GET /health",
        "GET /ready",
        "GET /model",
        "POST /predict",
    }
    for operation in found:
        check(operation, GenerationMode.POSITIVE, examples if operation.body else 3)
        if operation.body:  # the others can't be asked wrongly
            check(operation, GenerationMode.NEGATIVE, examples)


def test_requests_made_from_the_document(server: Server) -> None:
    examine(server, examples=12)


@pytest.mark.long
def test_many_requests_made_from_the_document(server: Server) -> None:
    examine(server, examples=500)
