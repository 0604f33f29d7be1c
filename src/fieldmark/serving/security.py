"""Who may call: the names that the server goes by, the pages that may call it, and the secrets that callers have to know."""

from __future__ import annotations

import hmac
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from fieldmark.serving.errors import ApiError
from fieldmark.serving.settings import Settings, is_address

TOKEN_HEADER = "x-fieldmark-token"
_SAFE = ("GET", "HEAD", "OPTIONS")
_OPEN = ("/v2/health/live", "/v2/health/ready", "/")
_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::\d+)?")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every response."""


@dataclass(frozen=True)
class Guard:
    """Refuses what is not for this server, or comes from a page that is none of its own.

    hosts: the names that it goes by, beside addresses: a page can only be made to call it by a name that is led here (DNS rebinding).
    origins: pages of others that may call.
    """

    hosts: frozenset[str]
    origins: frozenset[str]
    api_key: str | None
    token: str

    @classmethod
    def of(cls, settings: Settings, token: str) -> Guard:
        own = set() if settings.is_local else {socket.gethostname().lower(), f"{socket.gethostname().lower()}.local", settings.host.lower()}
        hosts = {"localhost", *own, *(each.lower() for each in settings.allow_host)}
        return cls(frozenset(hosts), frozenset(each.lower() for each in settings.cors), settings.api_key, token)

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Raises ApiError if the request is to be refused."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise ApiError(421, "the server does not go by this name", "Start it with --allow-host NAME if it should.")
        origin = headers.get("origin", "").lower()
        if origin and method not in _SAFE and origin not in self.origins and urlsplit(origin).netloc != host.lower():
            raise ApiError(403, "pages from elsewhere may not call this server", "Start it with --cors ORIGIN if they should.")
        if self.api_key is not None and path not in _OPEN and not self._knows_key(headers):
            said = {"WWW-Authenticate": "Bearer"}
            raise ApiError(401, "the API key is missing or wrong", "Send it as Authorization: Bearer KEY, or as X-API-Key.", said)

    def check_token(self, headers: Headers) -> None:
        """Of what changes something. Raises ApiError if the token is missing or wrong."""
        if not _same(headers.get(TOKEN_HEADER, ""), self.token):
            hint = "The server prints it when it starts, and its page has it."
            raise ApiError(403, "the token X-Fieldmark-Token is missing or wrong", hint)

    def _is_ours(self, host: str) -> bool:
        if "*" in self.hosts:
            return True
        name = _name(host)
        return name in self.hosts or is_address(name)

    def _knows_key(self, headers: Headers) -> bool:
        assert self.api_key is not None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        bearer = given.strip() if scheme.lower() == "bearer" else ""
        return _same(headers.get("x-api-key", ""), self.api_key) | _same(bearer, self.api_key)


def content_policy(sources: Sequence[str]) -> str:
    """What the page may load: of scripts and styles only those with these sources, such as hashes."""
    own = " ".join(sources)
    allowed = {
        "default-src": "'none'",
        "script-src": own or "'none'",
        "style-src": own or "'none'",
        "img-src": "data: blob:",
        "media-src": "blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


def _name(host: str) -> str:
    """Of a Host header, without the port; "" for what is none."""
    found = _HOST.fullmatch(host)
    return "" if found is None else (found[1] or found[2]).rstrip(".").lower()


def _same(given: str, expected: str) -> bool:
    """In a time that says nothing of where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
