"""What `fieldmark serve` can be told, checked before anything is loaded."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown
from fieldmark.core.processor import available_cores

API_KEY = "FIELDMARK_API_KEY"
"""The environment variable that may hold the API key."""
_NAME = re.compile(r"[^/\\\x00-\x1f\x7f?#%]{1,100}")
_ORIGIN = re.compile(r"https?://[^/\s?#]+")


@dataclass(frozen=True)
class Settings:
    """What a server is to do.

    Attributes:
        models: the folders of runs and bundles by name, in the order in which they were given.
        host: the address to listen at.
        port: 0 for a free one.
        threads: those of one computation. As many computations go on at once as the cores allow.
        max_batch: how many images are computed together at most; None for the largest batch that a bundle has a graph for, and at least 4.
        queue: images that are decoded, computed or wait for it, at most; what would exceed it is turned away (429).
        deadline: seconds from the first byte of a request to its answer.
        max_wait_ms: how long an image may wait for others to be computed with.
        max_mb, max_images: of a request, in MiB. max_megapixels, max_frames: of an image.
        api_key: what callers have to know; None if anybody may call.
        tls_cert, tls_key: files in PEM, both or none.
        cors: origins whose pages may call, such as https://example.org.
        allow_host: further names that the server may be called by, or * for any.
        feedback: the folder that corrected images are kept in; None to keep none.
    """

    models: dict[str, Path]
    host: str = "127.0.0.1"
    port: int = 8000
    threads: int = 1
    max_batch: int | None = None
    queue: int = 64
    deadline: float = 10.0
    max_wait_ms: float = 0.0
    max_mb: float = 32.0
    max_images: int = 64
    max_megapixels: float = 50.0
    max_frames: int = 100
    api_key: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    cors: tuple[str, ...] = ()
    allow_host: tuple[str, ...] = ()
    feedback: Path | None = None

    def __post_init__(self) -> None:
        problems = [*self._out_of_range(), *self._unsafe()]
        if problems:
            raise InputError(*problems)
        self.tls()

    @property
    def max_bytes(self) -> int:
        """Of a request."""
        return int(self.max_mb * 2**20)

    @property
    def max_pixels(self) -> int:
        return int(self.max_megapixels * 1e6)

    @property
    def computations(self) -> int:
        """How many go on at once."""
        return max(1, available_cores() // self.threads)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can call."""
        return self.host == "localhost" or (is_address(self.host) and ip_address(self.host).is_loopback)

    def tls(self) -> ssl.SSLContext | None:
        """None without a certificate. Raises InputError if it cannot be used."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            raise InputError(f"the certificate {self.tls_cert} and its key {self.tls_key} cannot be used: {reason}") from None
        return context

    def _out_of_range(self) -> list[str]:
        least = ["threads", "queue", "max_images", "max_frames", *([] if self.max_batch is None else ["max_batch"])]
        wrong = [f"{_option(name)} must be at least 1, got {getattr(self, name)}" for name in least if getattr(self, name) < 1]
        positive = ("deadline", "max_mb", "max_megapixels")
        wrong += [f"{_option(name)} must be more than 0, got {getattr(self, name):g}" for name in positive if not getattr(self, name) > 0]
        if self.max_wait_ms < 0:
            wrong.append(f"--max-wait-ms must not be negative, got {self.max_wait_ms:g}")
        if not 0 <= self.port <= 65535:
            wrong.append(f"--port must be from 0 to 65535, got {self.port}")
        if self.queue < self.max_images and self.max_images != Settings.max_images:
            wrong.append(f"--queue is {self.queue}, too few for a request of --max-images {self.max_images}")
        return wrong

    def _unsafe(self) -> list[str]:
        wrong = []
        if not self.models:
            wrong.append("no run or bundle is named")
        if (self.tls_cert is None) != (self.tls_key is None):
            wrong.append("--tls-cert and --tls-key belong together")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and len(self.api_key) >= 8):
            wrong.append("an API key consists of at least 8 letters, digits and signs of ASCII")
        wrong += [f"--cors: {each!r} is not an origin, such as https://example.org" for each in self.cors if not _ORIGIN.fullmatch(each)]
        wrong += [f"--allow-host: {each!r} is a name without port or path" for each in self.allow_host if re.search(r"[/:\s]", each)]
        return wrong


def named_models(given: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """The folders by the names that they are served under: NAME=PATH, or PATH, which is named after its folder.

    Raises InputError for names that two have, and for folders that are not there.
    """
    found: dict[str, Path] = {}
    problems = []
    for each in given:
        text = os.fspath(each)
        name, equals, path = text.partition("=")
        if not equals or os.sep in name or os.path.exists(text):
            name, path = os.path.basename(os.path.abspath(text)), text
        if not _NAME.fullmatch(name) or name in (".", ".."):
            problems.append(f"{shown(text)} cannot be served under the name {name!r}: name it otherwise, as in birds={shown(path)}")
        elif name in found:
            problems.append(f"two are named {name}: {shown(found[name])} and {shown(path)}; name one otherwise, as in other={shown(path)}")
        elif not os.path.isdir(path):
            problems.append(f"there is no folder {shown(path)}")
        else:
            found[name] = Path(path)
    if problems:
        raise InputError(*problems)
    return found


def is_address(host: str) -> bool:
    """Whether it is an IP address, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
