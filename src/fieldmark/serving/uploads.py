"""Requests with images: multipart forms, single files, and JSON with base64; counted while they arrive, and held in memory alone."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from fieldmark.answering.networks import Box
from fieldmark.serving.batcher import Overloaded
from fieldmark.serving.errors import ApiError
from fieldmark.serving.schema import JsonImages

MULTIPART, JSON, RAW = "multipart/form-data", "application/json", "application/octet-stream"
_AS_RAW = ("", RAW, "application/x-www-form-urlencoded")
"""The last is what curl calls whatever it sends."""
_IN_THREAD = 2**18
"""Bytes of JSON from which on it is parsed in a thread, so that others are answered meanwhile."""
_FIELD_BYTES = 2**16
_FIELDS = 8
_PART_HEADERS = 16
_JSON_PARTS = 2_000
"""Values of JSON beside those of the images, such as commas in their names."""
_HEADER_BYTES = 2**12


@dataclass(frozen=True)
class Image:
    """The bytes of a file, what the caller calls it, and the box of the object in it."""

    data: bytes
    name: str
    box: Box | None = None


@dataclass(frozen=True)
class Upload:
    """What a request brings; `model` and `top` if its JSON says so. fields: the other fields of a form."""

    images: tuple[Image, ...]
    model: str | None = None
    top: int | None = None
    fields: dict[str, str] = field(default_factory=dict)


@dataclass
class Memory:
    """Bytes of requests that are held at the same time."""

    limit: int
    held: int = 0

    def take(self, count: int) -> None:
        """Raises Overloaded if they would be too many."""
        if self.held + count > self.limit:
            raise Overloaded(1.0)
        self.held += count

    def free(self, count: int) -> None:
        self.held -= count


@dataclass(frozen=True)
class Limits:
    max_bytes: int
    max_images: int
    deadline: float
    memory: Memory


class Arrival:
    """A request whose body is read: by when it must be answered, and how much memory it takes until it is."""

    def __init__(self, request: Request, limits: Limits):
        self._request, self._limits = request, limits
        self._until = time.monotonic() + limits.deadline
        self._held = 0

    @property
    def left(self) -> float:
        """Seconds until it must be answered."""
        return max(0.0, self._until - time.monotonic())

    @property
    def content_type(self) -> bytes:
        return self._request.headers.get("content-type", "").encode("latin-1")

    async def body(self) -> bytearray:
        """Raises ApiError if it is too large or does not come in time, whatever the request says of its length."""
        return await self._into(bytearray())

    async def fed_to(self, parser: MultipartParser) -> None:
        """As body, without keeping it."""
        await self._into(None, parser)

    async def _into(self, kept: bytearray | None, parser: MultipartParser | None = None) -> Any:
        if self._request.headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(415, "the body is compressed", "Send it as it is: images are compressed already.", {"Connection": "close"})
        announced = self._request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._limits.max_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self.left):
                async for chunk in self._request.stream():
                    if self._held + len(chunk) > self._limits.max_bytes:
                        raise self._too_large()
                    self._limits.memory.take(len(chunk))
                    self._held += len(chunk)
                    if kept is not None:
                        kept += chunk
                    if parser is not None:
                        parser.write(chunk)
        except TimeoutError:
            raise ApiError(408, f"the request did not arrive within {self._limits.deadline:g} s", headers={"Connection": "close"}) from None
        except ClientDisconnect:
            raise ApiError(400, "the request ended early") from None
        return kept

    def _too_large(self) -> ApiError:
        limit = f"{self._limits.max_bytes / 2**20:g} MiB"
        return ApiError(413, f"the request is larger than {limit}", "Send fewer or smaller images.", {"Connection": "close"})

    def end(self) -> None:
        self._limits.memory.free(self._held)
        self._held = 0


@contextmanager
def arriving(request: Request, limits: Limits) -> Iterator[Arrival]:
    arrival = Arrival(request, limits)
    try:
        yield arrival
    finally:
        arrival.end()


async def read_upload(arrival: Arrival, limits: Limits) -> Upload:
    """The images of a request. Raises ApiError for what cannot be understood or is too much."""
    kind, options = parse_options_header(arrival.content_type)
    name = kind.decode("latin-1").lower()
    if name == MULTIPART:
        upload = await _form(arrival, options.get(b"boundary", b""), limits)
    elif name == JSON:
        body = await arrival.body()
        check_json(body, 8 * limits.max_images + _JSON_PARTS)
        upload = await asyncio.to_thread(_from_json, body) if len(body) > _IN_THREAD else _from_json(body)
    elif name in _AS_RAW or name.startswith("image/"):
        upload = Upload((Image(bytes(await arrival.body()), ""),))
    else:
        raise ApiError(415, f"a request of type {name} is not understood", f"Send {MULTIPART}, {RAW}, image/jpeg or {JSON}.")
    if len(upload.images) > limits.max_images:
        raise _too_many(limits)
    if not upload.images or not any(each.data for each in upload.images):
        raise ApiError(422, "there is no image in the request", "Send the file's bytes as the body, or in the field image of a form.")
    return upload


def check_json(body: bytes | bytearray, most: int) -> None:
    """Raises ApiError for JSON of more values than that, which would take many times its own memory."""
    if body.count(b",") > most or body.count(b"[") > most or body.count(b"{") > most:
        raise ApiError(413, "the JSON has too many values", "Send images as files, or tensors in binary.")


def _too_many(limits: Limits) -> ApiError:
    hint = "Send them in several requests."
    return ApiError(413, f"a request may hold at most {limits.max_images} images", hint, {"Connection": "close"})


class _Form:
    """The parts of a multipart form, as they come."""

    def __init__(self, limits: Limits):
        self.images: list[tuple[str, bytearray]] = []
        self.fields: dict[str, str] = {}
        self.ended = False
        self._parts = 0
        self._limits = limits
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[str, bytes] = {}
        self._part: bytearray | None = None
        self._field: str | None = None

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._read(self._header, data[start:end]),
            "on_header_value": lambda data, start, end: self._read(self._value, data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": lambda data, start, end: self._data(data[start:end]),
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._headers = {}
        self._parts += 1
        if self._parts > self._limits.max_images + _FIELDS:
            raise _too_many(self._limits)

    def _read(self, into: bytearray, data: bytes) -> None:
        if len(into) + len(data) > _HEADER_BYTES:
            raise ApiError(400, "a header of the form is too long")
        into += data

    def _header_end(self) -> None:
        if len(self._headers) == _PART_HEADERS:
            raise ApiError(400, "a part of the form has too many headers")
        self._headers[bytes(self._header).decode("latin-1").lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self._part = bytearray()
        if name == "image":
            if len(self.images) == self._limits.max_images:
                raise _too_many(self._limits)
            self._field = None
            self.images.append((options.get(b"filename", b"").decode("utf-8", "replace"), self._part))
        else:
            self._field = name

    def _data(self, data: bytes) -> None:
        assert self._part is not None
        if self._field is not None and len(self._part) + len(data) > _FIELD_BYTES:
            raise ApiError(413, f"the field {self._field} is too long")
        self._part += data

    def _part_end(self) -> None:
        assert self._part is not None
        if self._field is not None:
            self.fields[self._field] = self._part.decode("utf-8", "replace")

    def _end(self) -> None:
        self.ended = True


async def _form(arrival: Arrival, boundary: bytes, limits: Limits) -> Upload:
    form = _Form(limits)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        await arrival.fed_to(parser)
        parser.finalize()
    except FormParserError as error:
        raise ApiError(400, f"the form cannot be read: {error}") from None
    if not form.ended:
        raise ApiError(400, "the form ends early")
    boxes = _boxes(form.fields.pop("boxes", ""), len(form.images))
    images = tuple(Image(bytes(data), name, box) for (name, data), box in zip(form.images, boxes, strict=True))
    return Upload(images, fields=form.fields)


def _boxes(text: str, images: int) -> list[Box | None]:
    if not text:
        return [None] * images
    wrong = ApiError(422, "boxes is not a list with [left, top, right, bottom] or null for each image")
    try:
        boxes: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(boxes, list) or len(boxes) != images:
        raise wrong
    for box in boxes:
        if box is not None and not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
            raise wrong
    return boxes


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e9


def _from_json(body: bytearray) -> Upload:
    try:
        given = JsonImages.model_validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ApiError(422, f"{place}: {first['msg']}" if place else first["msg"]) from None
    images = []
    for number, each in enumerate(given.images):
        if each.box is not None and not all(map(_is_number, each.box)):
            raise ApiError(422, f"images.{number}.box: it is not of four numbers")
        try:
            images.append(Image(base64.b64decode(each.data, validate=True), each.name, each.box))
        except (binascii.Error, ValueError):
            raise ApiError(422, f"images.{number}.data: it is not base64") from None
    return Upload(tuple(images), given.model, given.top)
