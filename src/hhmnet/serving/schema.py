"""The API's documents, as its OpenAPI description shows them, and the form's fields."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hhmnet.serving import Refused

FILE_FIELD = "file"
TAKEN = (
    "videos (mp4, mov, 3gp, webm, mkv, avi, mpg, wmv, gif, ts, mts, flv, ogv) and skeleton files (json, skeleton, npz, "
    "npy, csv)"
)


class Health(BaseModel):
    """That the server runs, or is ready."""

    status: str


class Problem(BaseModel):
    """Why there is no prediction."""

    detail: str = Field(
        examples=["'clip.mp4' takes 93.0 seconds and 2790 frames; it may take 30 seconds; cut it"]
    )


class Model(BaseModel):
    """What the model tells apart, and what it looks at."""

    classes: list[str]
    modalities: list[str] = Field(examples=[["skeleton", "video"]])
    layout: str = Field(examples=["kinect20"])
    joints: list[str]
    bones: list[Annotated[list[int], Field(min_length=2, max_length=2)]] = Field(
        description="Pairs of joints, child and parent."
    )
    parts: list[str] = Field(description="Rows of the guidance.")


class Top(BaseModel):
    """A class and its probability."""

    label: str
    probability: float


class PredictionResponse(BaseModel):
    """The prediction on one file, as `hhmnet predict --json` prints it."""

    model_config = ConfigDict(extra="allow")
    input: str = Field(description="The file's name, as it was sent.", examples=["clip.mp4"])
    label: str = Field(description="The class, or `unknown`.", examples=["forehand"])
    known: bool = Field(description="Whether it is one of the classes.")
    top: list[Top]
    modalities: list[str] = Field(description="What the answer rests on.", examples=[["skeleton", "video"]])
    seconds: float
    members: dict[str, list[float]] = Field(
        description="Probabilities of all classes by each stream alone, and by the video alone.",
        examples=[{"joint": [0.9, 0.1], "video": [0.8, 0.2]}],
    )
    votes: dict[str, str] = Field(description="The class that each of them finds the most probable.")
    notes: list[str] = Field(description="What couldn't be had of the input, and why.")
    details: dict[str, Any] | None = Field(
        default=None,
        description="Only if asked for: `points` [M][T][V] of [x, y] or null, in pixels of `size`; `seconds` [T]; "
        "`guidance` [P][K] at `instants` [K] in seconds, or null.",
    )
    timeline: dict[str, Any] | None = Field(
        default=None,
        description="Only if asked for; null where nobody was found. `start` and `end` in seconds; `classes`, the "
        "strongest; `persons`, the most important first, each with `windows` (`start`, `end`, `label`, `probabilities` "
        "and `smoothed` of `classes`, null where the person isn't seen enough) and `segments` (`label`, `start`, "
        "`end`, `probability`); `config` of windows and segments.",
    )


class TaughtClasses(BaseModel):
    """The classes that were taught to this server, all of which are forgotten when it ends."""

    classes: dict[str, int] = Field(description="Examples by class.", examples=[{"wave": 3, "bow": 3}])
    most: int = Field(description="Examples that are kept at a time.")
    ready: bool = Field(description="Whether they are two classes, with two examples of each, to answer by.")


class FormFields(BaseModel):
    """Fields of a form beside its file."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def checked(cls, values: dict[str, Any]) -> Self:
        """The fields with these values; raises Refused, naming the field, for one that is unknown or can't be used."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
        name, reason = str(first["loc"][0]), first["msg"].replace("Input should be", "must be")
        if first["type"] == "extra_forbidden":
            known = ", ".join((FILE_FIELD, *cls.model_fields))
            raise Refused(422, f"there is no field {json.dumps(name[:50])}; known: {known}")
        raise Refused(422, f"field '{name}' {'is missing' if first['type'] == 'missing' else reason}")


class RequestOptions(FormFields):
    """What a client wants to know of its file."""

    top: int = Field(5, ge=1, le=10_000, description="Classes to name.")
    modality: list[Literal["skeleton", "video"]] = Field(
        ["skeleton", "video"], description="What to go by; all that the model looks at if left out."
    )
    details: bool = Field(False, description="Joints and guidance too.")
    timeline: bool = Field(
        False, description="What is done when, too: the model's answer on windows over the recording."
    )
    taught: bool = Field(
        False, description="By the classes that were taught to this server, which go by skeletons alone."
    )

    @classmethod
    def from_form(cls, fields: dict[str, list[str]], modalities: list[str]) -> RequestOptions:
        """The options that a form's texts say, for a model that looks at ``modalities``; raises Refused."""
        options = cls.checked(
            {name: texts if name == "modality" else texts[-1] for name, texts in fields.items()}
        )
        known = ["skeleton"] if options.taught else modalities
        if "modality" not in fields:
            return options.model_copy(update={"modality": known})
        if not set(options.modality) <= set(known):
            looks = " or ".join(known)
            raise Refused(422, f"field 'modality' must be {looks}: the model looks at nothing else")
        return options


class Lesson(FormFields):
    """What an example teaches."""

    label: str = Field(
        min_length=1,
        max_length=60,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]+$",
        description="What the person in it does.",
    )


def form(fields: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """What the OpenAPI document says of a form with a file and these fields."""
    about, schema = f"One of {TAKEN}. The content decides, not the name.", fields.model_json_schema()
    file = {"type": "string", "format": "binary", "description": about}
    schema["required"] = [FILE_FIELD, *schema.get("required", ())]
    schema["properties"] = {FILE_FIELD: file} | schema["properties"]
    content: dict[str, Any] = {"schema": schema, "example": {FILE_FIELD: "clip.mp4"} | example}
    if "modality" in example:
        content["encoding"] = {"modality": {"style": "form", "explode": True}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": content}}}


FEWEST = 2
"""Taught classes, and examples of each, that can be told apart."""
Taught = dict[str, list[dict[str, Any]]]
"""By taught class, what a worker learned of each clip."""

ACCESS_STATUSES = (403, 421)
"""Of requests that reach no route."""
REASONS = {
    400: "The form can't be read, or ends in the middle.",
    401: "The token is missing or wrong.",
    403: "The request comes from another site's page.",
    404: "No class of that name is taught.",
    408: "The upload took too long.",
    409: "Too few examples are taught, or as many as the server keeps.",
    413: "The upload is too large, the video too long, its pictures too large, or the work took too much memory.",
    415: "The file is nothing that this server takes.",
    421: "The server is called by a name that isn't its own.",
    422: "The file, or a field, can't be used.",
    500: "The server failed; its log says why.",
    503: "Too many requests at a time, or no model is loaded; Retry-After says when to come again.",
    504: "The answer took too long and was given up.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What FastAPI is told of a route's refusals."""
    return {status: {"model": Problem, "description": REASONS[status]} for status in statuses}
