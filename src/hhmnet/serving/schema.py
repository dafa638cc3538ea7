"""The API's documents, as its OpenAPI description shows them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from hhmnet.sample import MODALITIES
from hhmnet.serving.uploads import FILE_FIELD, TAKEN


class Health(BaseModel):
    """That the server runs, or is ready."""

    status: str = Field(examples=["ok"])


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str = Field(
        examples=["'clip.mp4' takes 93.0 seconds and 2790 frames; it may take 30 seconds; cut it"]
    )


class Model(BaseModel):
    """What the model tells apart, and what it looks at."""

    classes: list[str] = Field(examples=[["forehand", "serve"]])
    modalities: list[str] = Field(examples=[["skeleton", "video"]])
    layout: str = Field(examples=["kinect20"])
    joints: list[str] = Field(examples=[["hip_center", "spine"]])
    bones: list[Annotated[list[int], Field(min_length=2, max_length=2)]] = Field(
        description="Pairs of joints, child and parent.", examples=[[[1, 0]]]
    )
    parts: list[str] = Field(description="Rows of the guidance.", examples=[["head", "left_hand"]])


class Top(BaseModel):
    """A class and its probability."""

    label: str = Field(examples=["forehand"])
    probability: float = Field(examples=[0.93])


class Answer(BaseModel):
    """The answer on one file, as `hhmnet predict --json` prints it."""

    model_config = ConfigDict(extra="allow")
    input: str = Field(description="The file's name, as it was sent.", examples=["clip.mp4"])
    label: str = Field(examples=["forehand"])
    top: list[Top]
    modalities: list[str] = Field(description="What the answer rests on.", examples=[["skeleton", "video"]])
    seconds: float = Field(examples=[1.7])
    members: dict[str, list[float]] = Field(
        description="Probabilities of all classes by each stream alone, and by the video alone.",
        examples=[{"joint": [0.9, 0.1], "video": [0.8, 0.2]}],
    )
    votes: dict[str, str] = Field(
        description="The class that each of them finds the most probable.", examples=[{"joint": "forehand"}]
    )
    notes: list[str] = Field(description="What couldn't be had of the input, and why.", examples=[[]])
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


MOST_TOP = 10_000
"""Classes that can be asked for."""
OF_THE_GATE = (403, 421)
"""Statuses of requests that reach no route."""
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FILE_FIELD],
                    "additionalProperties": False,
                    "properties": {
                        FILE_FIELD: {
                            "type": "string",
                            "format": "binary",
                            "description": f"One of {TAKEN}. The content decides, not the name.",
                        },
                        "top": {
                            "type": "integer",
                            "minimum": 1,
                            "maximum": MOST_TOP,
                            "default": 5,
                            "description": "Classes to name.",
                        },
                        "modality": {
                            "type": "array",
                            "items": {"type": "string", "enum": list(MODALITIES)},
                            "description": "What to go by; all that the model looks at if left out.",
                        },
                        "details": {
                            "type": "boolean",
                            "default": False,
                            "description": "Joints and guidance too.",
                        },
                        "timeline": {
                            "type": "boolean",
                            "default": False,
                            "description": "What is done when, too: the model's answer on windows over the recording.",
                        },
                        "window": {
                            "type": "number",
                            "minimum": 0.1,
                            "maximum": 600,
                            "description": "Seconds of a window of the timeline; as long as the clips that the model "
                            "learned from if left out.",
                        },
                        "stride": {
                            "type": "number",
                            "minimum": 0.01,
                            "maximum": 600,
                            "description": "Seconds from one window to the next; 0.25 if left out, or more where that "
                            "would take too long.",
                        },
                    },
                },
                "encoding": {"modality": {"style": "form", "explode": True}},
                "example": {FILE_FIELD: "clip.mp4", "top": 3, "modality": ["skeleton"]},
            }
        },
    }
}
REASONS = {
    400: "The form can't be read, or ends in the middle.",
    401: "The token is missing or wrong.",
    403: "The request comes from another site's page.",
    408: "The upload took too long.",
    413: "The upload is too large, the video too long, its pictures too large, or the work took too much memory.",
    415: "The file is nothing that this server takes.",
    421: "The server is called by a name that isn't its own.",
    422: "The file, or a field, can't be used.",
    500: "The server failed; its log says why.",
    503: "Too many requests at a time; Retry-After says when to come again.",
    504: "The answer took too long and was given up.",
}
