"""The API of the first version: answers for images, and what there is to ask."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from fieldmark.core.errors import InputError
from fieldmark.runtime.decode import UnreadableImage
from fieldmark.serving.errors import ApiError
from fieldmark.serving.explanation import explain
from fieldmark.serving.models import Given, Result, ServedModel
from fieldmark.serving.schema import (
    Answers,
    ClassList,
    ErrorBody,
    Explanation,
    FailedAnswer,
    ImageAnswer,
    JsonImages,
    Kept,
    ModelEntry,
    ModelList,
)
from fieldmark.serving.serving import Serving
from fieldmark.serving.uploads import JSON, MULTIPART, RAW, Image, Upload, arriving, read_upload

_TOP = 5
Model = Annotated[str | None, Query(description="The name of the model; it may be left out if there is one.")]
Top = Annotated[int | None, Query(ge=1, description=f"How many classes to name; {_TOP} by default.")]
_FILE = {"type": "string", "format": "binary"}
IMAGES_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "array", "items": _FILE, "minItems": 1},
                        "boxes": {"type": "string", "description": "In JSON, of each image [left, top, right, bottom] in pixels, or null."},
                    },
                }
            },
            RAW: {"schema": _FILE},
            "image/*": {"schema": _FILE},
            JSON: {"schema": JsonImages.model_json_schema(ref_template="#/components/schemas/{model}")},
        },
    }
}
FEEDBACK_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "required": ["image", "class"],
                    "properties": {
                        "image": _FILE,
                        "class": {"type": "string", "description": "The right class, or the name of a new one."},
                        "answer": {"type": "string", "description": "What was answered."},
                    },
                }
            }
        },
    }
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Those that a route may answer with, for its description."""
    return {status: {"model": ErrorBody} for status in (400, 401, 403, 404, 421, *statuses)}


OF_IMAGES = errors(408, 413, 415, 422, 429, 503)


def routes(serving: Serving) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["fieldmark"])

    @router.post("/predict", response_model=Answers, responses=OF_IMAGES, openapi_extra=IMAGES_BODY, summary="Answer for images")
    async def predict(request: Request, model: Model = None, top: Top = None) -> Response:
        with arriving(request, serving.limits) as arrival:
            upload = await read_upload(arrival, serving.limits)
            chosen = find_model(serving, upload.model or model)
            results = await serving.answer(request, chosen, given(upload.images, upload.top or top or _TOP), arrival.left)
        return json_of(Answers(model=chosen.name, answers=told_results(upload.images, results)))

    @router.post("/explain", response_model=Explanation, responses=OF_IMAGES, openapi_extra=IMAGES_BODY, summary="Explain an answer")
    async def explain_image(request: Request, model: Model = None, top: Top = None) -> Response:
        with arriving(request, serving.limits) as arrival:
            upload = await read_upload(arrival, serving.limits)
            chosen = find_model(serving, upload.model or model)
            image, result = await only_one(request, chosen, upload, upload.top or top or _TOP, arrival.left)
        return json_of(await asyncio.to_thread(explain, chosen, result, image.name))

    @router.post(
        "/feedback", response_model=Kept, status_code=201, responses=OF_IMAGES, openapi_extra=FEEDBACK_BODY, summary="Correct an answer"
    )
    async def feedback(request: Request, model: Model = None) -> Response:
        serving.guard.check_token(request.headers)
        if serving.feedback is None:
            raise ApiError(404, "corrected images are not kept", "Start the server with --feedback FOLDER.")
        with arriving(request, serving.limits) as arrival:
            upload = await read_upload(arrival, serving.limits)
            chosen = find_model(serving, model)
            image, _ = await only_one(request, chosen, upload, 1, arrival.left)
            label, answer = upload.fields.get("class", ""), upload.fields.get("answer", "")
            try:
                kept = await asyncio.to_thread(serving.feedback.keep, image.data, label, answer, chosen.name)
            except ValueError as error:
                raise ApiError(422, f"class: {error}") from None
        return json_of(Kept(kept=kept), 201)

    async def only_one(request: Request, chosen: ServedModel, upload: Upload, top: int, seconds: float) -> tuple[Image, Result]:
        """Raises ApiError if there are several images, or the one cannot be read."""
        if len(upload.images) != 1:
            raise ApiError(422, f"there are {len(upload.images)} images in the request, where one is expected")
        results = await serving.answer(request, chosen, given(upload.images, top), seconds)
        told_results(upload.images, results)
        (result,) = results
        assert isinstance(result, Result)
        return upload.images[0], result

    @router.get("/models", response_model=ModelList, responses=errors(), summary="List the models")
    async def models() -> Response:
        entries = [entry(each) for each in serving.models]
        return json_of(ModelList(models=entries, feedback=serving.settings.feedback is not None, enroll=False))

    @router.get("/classes", response_model=ClassList, responses=errors(422), summary="List the classes of a model")
    async def classes(model: Model = None) -> Response:
        chosen = find_model(serving, model)
        levels = {name: list(parents) for name, parents in chosen.predictor.levels.items()}
        return json_of(ClassList(model=chosen.name, classes=list(chosen.class_names), levels=levels))

    @router.post("/models/{name}/reload", response_model=ModelEntry, responses=errors(409, 422), summary="Load a model again")
    async def reload(request: Request, name: str) -> Response:
        serving.guard.check_token(request.headers)
        find_model(serving, name)
        try:
            return json_of(entry(await serving.reload(name)))
        except InputError as error:
            said = "; ".join(map(str, error.problems))
            raise ApiError(409, f"{name} goes on as it is, because it cannot be loaded again: {said}", error.hint or "") from None

    return router


def find_model(serving: Serving, name: str | None) -> ServedModel:
    """Raises ApiError if there is no such model, or several and none is named."""
    names = serving.models.names
    if name is None and len(names) > 1:
        raise ApiError(422, "several models are served, and none is named", f"Name one of them: {', '.join(names)}.")
    if name is not None and name not in serving.models:
        raise ApiError(404, "there is no model of this name", f"There is {', '.join(names)}.")
    return serving.models[names[0] if name is None else name]


def given(images: tuple[Image, ...], top: int) -> list[Given]:
    return [Given(each.data, each.box, top) for each in images]


def told_results(images: tuple[Image, ...], results: list[Result | Exception]) -> list[ImageAnswer | FailedAnswer]:
    """Raises ApiError if none of the images can be answered for, and what is no fault of an image."""
    told: list[ImageAnswer | FailedAnswer] = []
    for image, result in zip(images, results, strict=True):
        if isinstance(result, UnreadableImage):
            told.append(FailedAnswer(name=image.name, error=result.reason))
        elif isinstance(result, Exception):
            raise result
        elif not result.answer.classes:
            told.append(FailedAnswer(name=image.name, error=result.answer.note))
        else:
            told.append(ImageAnswer.of(result.answer, image.name))
    if all(isinstance(each, FailedAnswer) for each in told):
        reasons = dict.fromkeys(each.error for each in told if isinstance(each, FailedAnswer))
        what = "the image" if len(told) == 1 else "none of the images"
        raise ApiError(422, f"{what} can{'not' * (len(told) == 1)} be read: {'; '.join(reasons)}")
    return told


def entry(model: ServedModel) -> ModelEntry:
    return ModelEntry(
        name=model.name,
        network=model.identity.network,
        format=model.identity.format,
        precision=model.identity.precision,
        classes=len(model.class_names),
        levels=list(model.predictor.levels),
        calibrated=model.predictor.decisions is not None,
        explains=model.has_maps,
        neighbours=model.has_neighbours,
        loaded=model.loaded.isoformat(timespec="seconds").replace("+00:00", "Z"),
        digest=model.identity.digest,
    )


def json_of(body: Any, status: int = 200) -> Response:
    return Response(body.model_dump_json(by_alias=True), status, media_type="application/json")
