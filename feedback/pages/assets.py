"""Scripts and styles: several folders under one address, each file cached until its content changes.

A page names them under `/static/<hash of all>/`, so that a module's relative imports carry the hash too and
may be cached for ever. Under any other hash, or none, a browser asks each time whether its copy still holds.
"""

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from feedback.pages.headers import NO_SNIFFING

TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
HASH = 16  # hex digits


@dataclass(frozen=True)
class Asset:
    path: Path

    @cached_property
    def body(self) -> bytes:
        return self.path.read_bytes()

    @cached_property
    def packed(self) -> bytes:
        return gzip.compress(self.body, mtime=0)

    @cached_property
    def hash(self) -> str:
        return hashlib.sha256(self.body).hexdigest()[:HASH]

    @property
    def type(self) -> str:
        return f"{TYPES[self.path.suffix]}; charset=utf-8"


class Assets:
    """The files of some folders by name, and Plotly's script out of its package."""

    def __init__(self, folders: Sequence[Path]) -> None:
        paths = [path for folder in folders for path in folder.iterdir() if path.suffix in TYPES]
        self._assets = {path.name: Asset(path) for path in [*paths, _plotly()]}
        hashes = sorted(f"{name} {asset.hash}" for name, asset in self._assets.items())
        self.version = hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:HASH]

    def url(self, name: str) -> str:
        """A file's address. KeyError for one that is not there."""
        return f"/static/{self.version}/{self._assets[name].path.name}"

    def answer(self, request: Request, version: str | None, name: str) -> Response:
        """The file, or 304 where the browser has it. HTTPException where there is none."""
        asset = self._assets.get(name)
        if asset is None:
            raise HTTPException(404, "There is no such file.")
        packed = "gzip" in request.headers.get("accept-encoding", "")
        etag = f'"{asset.hash}{"-gzip" if packed else ""}"'
        headers = {
            "ETag": etag,
            "Cache-Control": FOR_EVER if version == self.version else ASK_AGAIN,
            "Vary": "Accept-Encoding",
            **NO_SNIFFING,
        }
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if packed:
            headers["Content-Encoding"] = "gzip"
        return Response(asset.packed if packed else asset.body, headers=headers, media_type=asset.type)


def assets_router(assets: Assets) -> APIRouter:
    router = APIRouter(prefix="/static", include_in_schema=False)

    # Not async: a large file is read and packed at its first request, and must not hold up the others.
    @router.get("/{name}")
    def newest(request: Request, name: str) -> Response:
        return assets.answer(request, None, name)

    @router.get("/{version}/{name}")
    def of_version(request: Request, version: str, name: str) -> Response:
        return assets.answer(request, version, name)

    return router


def _plotly() -> Path:
    """Plotly's script in the installed package, found without importing it."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"
