"""The open inference protocol, version 2, over HTTP: what clients and gateways of KServe, Triton and others speak.

https://github.com/kserve/open-inference-protocol, with the extension for binary tensors.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError

from fieldmark.answering.in_memory import encoded
from fieldmark.runtime.decode import UnreadableImage
from fieldmark.serving.errors import ApiError
from fieldmark.serving.models import Given, Result, ServedModel
from fieldmark.serving.schema import V2Error
from fieldmark.serving.serving import Serving
from fieldmark.serving.uploads import arriving, check_json

HEADER_LENGTH = "inference-header-content-length"
_ENCODED, _PIXELS = "image", "pixels"
_VERSION = "1"
_JSON_VALUES = 4_000_000
"""Numbers of pixels in JSON: about 26 images of 224 x 224. In binary there may be as many as a request has room for."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    parameters: dict[str, Any] = {}


class Tensor(_Part):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None


class Wanted(_Part):
    name: str


class InferRequest(_Part):
    id: str = ""
    inputs: list[Tensor]
    outputs: list[Wanted] = []


class TensorInfo(BaseModel):
    name: str
    datatype: str
    shape: list[int]


class ServerInfo(BaseModel):
    name: str
    version: str
    extensions: list[str]


class ModelInfo(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    ready: bool


class ModelReady(BaseModel):
    name: str
    ready: bool


class InferResponse(BaseModel):
    model_name: str
    model_version: str
    id: str = ""
    outputs: list[dict[str, Any]]


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": V2Error} for status in (400, 401, 403, 404, 421, 422, *statuses)}


def routes(serving: Serving) -> APIRouter:
    router = APIRouter(prefix="/v2", tags=["open inference protocol"])

    def find(name: str) -> ServedModel:
        if name not in serving.models:
            raise ApiError(404, f"there is no model {name!r}")
        return serving.models[name]

    @router.get("", response_model=ServerInfo, responses=_errors())
    async def server() -> ServerInfo:
        return ServerInfo(name="fieldmark", version=_own_version(), extensions=["binary_tensor_data"])

    @router.get("/health/live", response_model=Live)
    async def live() -> Live:
        return Live(live=True)

    @router.get("/health/ready", response_model=Ready, responses={400: {"model": Ready}})
    async def ready() -> Response:
        """Not while the server is being stopped."""
        return JSONResponse({"ready": not serving.stopping}, 400 if serving.stopping else 200)

    @router.get("/models/{name}/versions/1", include_in_schema=False)
    @router.get("/models/{name}", response_model=ModelInfo, responses=_errors())
    async def model(name: str) -> ModelInfo:
        return _info(find(name))

    @router.get("/models/{name}/versions/1/ready", include_in_schema=False)
    @router.get("/models/{name}/ready", response_model=ModelReady, responses=_errors())
    async def model_ready(name: str) -> ModelReady:
        return ModelReady(name=find(name).name, ready=True)

    @router.post("/models/{name}/versions/1/infer", include_in_schema=False)
    @router.post(
        "/models/{name}/infer",
        response_model=InferResponse,
        responses=_errors(408, 413, 415, 429, 503),
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}},
    )
    async def infer(request: Request, name: str) -> Response:
        """`image` is BYTES [n], files of images (in JSON, in base64); or `pixels` is UINT8 [n, height, width, 3], red first."""
        chosen = find(name)
        with arriving(request, serving.limits) as arrival:
            content = bytes(await arrival.body())
            asked, images = await asyncio.to_thread(_read, content, request.headers.get(HEADER_LENGTH), serving.limits.max_images)
            results = await serving.answer(request, chosen, [Given(each, None, 1) for each in images], arrival.left)
        return _told(chosen, asked, _all(results))

    return router


def _own_version() -> str:
    try:
        return version("fieldmark")
    except PackageNotFoundError:  # run from its source
        return "0"


def _info(model: ServedModel) -> ModelInfo:
    classes = len(model.class_names)
    outputs = [("logits", "FP32", [-1, classes]), ("probabilities", "FP32", [-1, classes]), ("class", "BYTES", [-1])]
    if model.predictor.decisions is not None:
        outputs.append(("unknown", "BOOL", [-1]))
    return ModelInfo(
        name=model.name,
        versions=[_VERSION],
        platform=f"fieldmark_{model.identity.format}",
        inputs=[
            TensorInfo(name=_ENCODED, datatype="BYTES", shape=[-1]),
            TensorInfo(name=_PIXELS, datatype="UINT8", shape=[-1, -1, -1, 3]),
        ],
        outputs=[TensorInfo(name=name, datatype=kind, shape=shape) for name, kind, shape in outputs],
    )


@dataclass(frozen=True)
class _Asked:
    """What is to be returned: by the name of each output that is wanted, whether in binary; all, if none is named."""

    id: str
    outputs: dict[str, bool]
    binary: bool


def _read(content: bytes, header_length: str | None, most: int) -> tuple[_Asked, list[bytes]]:
    """What is asked for, and the images as files. Raises ApiError for what cannot be understood."""
    if header_length is not None and not (header_length.isdecimal() and int(header_length) <= len(content)):
        raise ApiError(400, "Inference-Header-Content-Length is not the length of the JSON")
    end = len(content) if header_length is None else int(header_length)
    check_json(content[:end], _JSON_VALUES)
    try:
        request = InferRequest.model_validate_json(content[:end])
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ApiError(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if len(request.inputs) != 1:
        raise ApiError(400, f"there is one input, {_ENCODED} or {_PIXELS}, not {len(request.inputs)}")
    (tensor,) = request.inputs
    size = tensor.parameters.get("binary_data_size")
    binary = None if size is None else content[end:]
    if size is not None and (not isinstance(size, int) or size != len(content) - end):
        raise ApiError(400, "binary_data_size is not the length of what follows the JSON")
    if tensor.name not in (_ENCODED, _PIXELS) or (tensor.datatype, len(tensor.shape)) not in (("BYTES", 1), ("UINT8", 4)):
        raise ApiError(400, f"the input is {_ENCODED}, BYTES [n], or {_PIXELS}, UINT8 [n, height, width, 3]")
    if not 1 <= tensor.shape[0] <= most:
        raise ApiError(400, f"a request holds 1 to {most} images, not {tensor.shape[0]}")
    images = _files(tensor, binary) if tensor.datatype == "BYTES" else _of_pixels(tensor, binary)
    known = ("logits", "probabilities", "class", "unknown")
    if strangers := [each.name for each in request.outputs if each.name not in known]:
        raise ApiError(400, f"there is no output {strangers[0]!r}; there are {', '.join(known)}")
    outputs = {each.name: each.parameters.get("binary_data") is True for each in request.outputs}
    return _Asked(request.id, outputs, request.parameters.get("binary_data_output") is True), images


def _files(tensor: Tensor, binary: bytes | None) -> list[bytes]:
    n = tensor.shape[0]
    if binary is not None:
        found: list[bytes] = []
        at = 0
        while at + 4 <= len(binary) and len(found) < n:
            (length,) = struct.unpack_from("<I", binary, at)
            found.append(binary[at + 4 : at + 4 + length])
            at += 4 + length
        if at != len(binary) or len(found) != n:
            raise ApiError(400, f"the binary data are not {n} elements, each after its length in 4 bytes")
        return found
    data = tensor.data or []
    if len(data) != n or not all(isinstance(each, str) for each in data):
        raise ApiError(400, f"data is not a list of {n} texts")
    try:
        return [base64.b64decode(each, validate=True) for each in data]
    except (binascii.Error, ValueError):
        raise ApiError(400, "data is not base64") from None


def _of_pixels(tensor: Tensor, binary: bytes | None) -> list[bytes]:
    _, height, width, channels = tensor.shape
    wrong = ApiError(400, f"the data are not UINT8 of the shape {tensor.shape}")
    if channels != 3 or height < 1 or width < 1:
        raise ApiError(400, f"{_PIXELS} is UINT8 [n, height, width, 3], not {tensor.shape}")
    if binary is not None:
        if len(binary) != math.prod(tensor.shape):
            raise wrong
        array = np.frombuffer(binary, np.uint8)
    else:
        try:
            values = np.array(tensor.data)
        except ValueError:
            raise wrong from None
        if values.size != math.prod(tensor.shape) or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
            raise wrong
        array = values.astype(np.uint8)
    return [encoded(each) for each in array.reshape(tensor.shape)]


def _all(results: Sequence[Result | Exception]) -> list[Result]:
    """Raises ApiError for the first that is none: a request is answered as a whole."""
    found: list[Result] = []
    for number, each in enumerate(results):
        if isinstance(each, UnreadableImage):
            raise ApiError(400, f"image {number} cannot be read: {each.reason}")
        if isinstance(each, Exception):
            raise each
        if not each.answer.classes:
            raise ApiError(400, f"image {number}: {each.answer.note}")
        found.append(each)
    return found


def _told(model: ServedModel, asked: _Asked, results: Sequence[Result]) -> Response:
    logits = np.stack([each.logits for each in results])
    found: dict[str, tuple[str, Any]] = {
        "logits": ("FP32", logits),
        "probabilities": ("FP32", model.predictor.probabilities(logits)),
        "class": ("BYTES", [each.answer.best for each in results]),
    }
    if model.predictor.decisions is not None:
        found["unknown"] = ("BOOL", np.array([bool(each.answer.unknown) for each in results]))
    told, attached = [], []
    for name in asked.outputs or found:
        if name not in found:
            raise ApiError(400, f"{model.name} is not calibrated and has no output {name!r}")
        kind, values = found[name]
        output: dict[str, Any] = {"name": name, "datatype": kind, "shape": list(np.shape(values))}
        if asked.outputs.get(name, asked.binary) or (asked.binary and not asked.outputs):
            attached.append(_binary(kind, values))
            output["parameters"] = {"binary_data_size": len(attached[-1])}
        else:
            output["data"] = values if kind == "BYTES" else values.ravel().tolist()
        told.append(output)
    body = InferResponse(model_name=model.name, model_version=_VERSION, id=asked.id, outputs=told).model_dump(exclude_defaults=True)
    text = json.dumps(body, ensure_ascii=False).encode()
    if not attached:
        return Response(text, media_type="application/json")
    return Response(text + b"".join(attached), media_type="application/octet-stream", headers={HEADER_LENGTH: str(len(text))})


def _binary(kind: str, values: Any) -> bytes:
    if kind == "BYTES":
        return b"".join(struct.pack("<I", len(each)) + each for each in (text.encode() for text in values))
    array: np.ndarray = values
    return array.astype("<f4" if kind == "FP32" else np.uint8).tobytes()
