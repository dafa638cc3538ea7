"""What the OpenAPI document says of the server is so: requests made from it get no 5xx, and answers that fit it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hostile import CLIP
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

import jsonschema
from starlette.testclient import TestClient

from hhmnet.serving import Limits
from hhmnet.serving.workers import load
from made_server import PATIENCE, serving

pytestmark = pytest.mark.xdist_group("serving")
BASE = "/api/v1"
ANYTHING = (
    st.text(max_size=9) | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["true", "1e9"])
)


@pytest.fixture(scope="module")
def client(finished_run: Path) -> Iterator[TestClient]:
    make = partial(load, str(finished_run), "cpu", False)
    with serving(Limits(videos=False, answer_seconds=PATIENCE, concurrent=8), make) as found:
        yield found


def value_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a field's schema allows, as a form has them."""
    low, high = schema.get("minimum"), schema.get("maximum")
    match schema.get("type"):
        case "integer":
            return st.integers(low, high).map(str)
        case "number":
            return st.floats(low, high).map(str)
        case "boolean":
            return st.sampled_from(["true", "false"])
        case "array":
            return st.lists(value_of(schema["items"]), min_size=1, max_size=2)
    return st.sampled_from(schema["enum"])


def checked(document: dict[str, Any], path: str, response: Any) -> None:
    """Hold a response against what the document says of its route."""
    route = document["paths"][path][response.request.method.lower()]
    assert str(response.status_code) in route["responses"], response.text
    assert response.status_code < 500, response.text
    schema = route["responses"][str(response.status_code)]["content"]["application/json"]["schema"]
    jsonschema.validate(response.json(), schema | {"components": document["components"]})


def examine(client: TestClient, examples: int) -> None:
    document = client.get(f"{BASE}/openapi.json").json()
    assert document["servers"] == [{"url": BASE}]
    assert set(document["paths"]) == {"/health", "/ready", "/model", "/predict", "/taught", "/taught/model"}
    for path in ("/health", "/ready", "/model", "/taught", "/taught/model"):
        checked(document, path, client.get(BASE + path))
    for label in ("wave", "", "bow", "wave", "bow"):  # so that `taught` has something to answer by
        taught = client.post(f"{BASE}/taught", data={"label": label}, files={"file": ("a.json", CLIP)})
        checked(document, "/taught", taught)
    checked(document, "/taught", client.delete(f"{BASE}/taught?label=nothing"))
    assert taught.json()["ready"]
    predict = document["paths"]["/predict"]["post"]
    assert {"200", "400", "401", "413", "415", "422", "500", "503", "504"} <= set(predict["responses"])
    content = predict["requestBody"]["content"]["multipart/form-data"]
    assert content["schema"]["required"] == ["file"]
    fields = {name: field for name, field in content["schema"]["properties"].items() if name != "file"}
    fields["modality"]["items"]["enum"] = client.get(f"{BASE}/model").json()["modalities"]
    allowed = st.fixed_dictionaries({}, optional={name: value_of(field) for name, field in fields.items()})
    others = st.dictionaries(st.sampled_from([*fields, "other"]), ANYTHING, min_size=1)
    files = st.sampled_from([CLIP, CLIP[:-9], b"", b"{}", b"x"]) | st.binary(max_size=40)

    @seed(1)
    @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate])
    @given(fields=allowed, wrong=others, file=files)
    def every(fields: dict[str, Any], wrong: dict[str, str], file: bytes) -> None:
        right = {"file": ("a.json", CLIP)}
        response = client.post(f"{BASE}/predict", data=fields, files=right)
        assert response.status_code == 200, response.text
        checked(document, "/predict", response)
        for data, files in ((fields | wrong, right), (fields, {"file": ("a", file)})):
            checked(document, "/predict", client.post(f"{BASE}/predict", data=data, files=files))

    every()
    assert set(content["example"]) <= {"file", *fields}


def test_requests_made_from_the_document(client: TestClient) -> None:
    examine(client, examples=12)


@pytest.mark.long
def test_many_requests_made_from_the_document(client: TestClient) -> None:
    examine(client, examples=500)
