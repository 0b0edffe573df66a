"""The loopback test Hub's collections: the requests of huggingface_hub 2.4 that make and fill one."""

import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .refused import Refused

DATE = "2026-01-01T00:00:00.000000Z"


class Collections:
    """
    Collections by their slug, as the answers describe them.

    Args:
        writer: who asks, by the request; refuses whoever may not write.
    """

    def __init__(self, writer):
        self.writer, self.by_slug = writer, {}

    def table(self) -> list[tuple]:
        """Method, path and handler of each request."""
        one = "/api/collections/{owner}/{slug}"
        return [
            ("POST", "/api/collections", self._create),
            ("GET", one, self._get),
            ("DELETE", one, self._delete),
            ("POST", f"{one}/items", self._put),
            ("PATCH", f"{one}/items/{{item}}", self._change),
        ]

    def _found(self, request: Request) -> dict:
        slug = "{owner}/{slug}".format(**request.path_params)
        if slug not in self.by_slug:
            raise Refused(404, None, "Collection not found")
        return self.by_slug[slug]

    async def _create(self, request: Request) -> Response:
        self.writer(request)
        body = await request.json()
        title, owner = body["title"], body["namespace"]
        for there in self.by_slug.values():
            if (there["owner"]["name"], there["title"]) == (owner, title):
                return JSONResponse({"error": "This collection already exists", "slug": there["slug"]}, 409)
        plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        slug = f"{owner}/{plain}-{len(self.by_slug):024x}"
        self.by_slug[slug] = {
            "slug": slug,
            "title": title,
            "description": body.get("description"),
            "owner": {"name": owner},
            "private": body["private"],
            "items": [],
            "lastUpdated": DATE,
            "position": len(self.by_slug),
            "theme": "green",
            "upvotes": 0,
        }
        return JSONResponse(self.by_slug[slug])

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._found(request))

    async def _delete(self, request: Request) -> Response:
        self.writer(request)
        del self.by_slug[self._found(request)["slug"]]
        return JSONResponse({"success": True})

    async def _put(self, request: Request) -> Response:
        self.writer(request)
        collection, body = self._found(request), await request.json()
        items, item = collection["items"], body["item"]
        if any((there["id"], there["type"]) == (item["id"], item["type"]) for there in items):
            return JSONResponse({"error": "The item is in the collection already"}, 409)
        items.append({"_id": f"{len(items):024x}", **item, "position": len(items), "note": _note(body)})
        return JSONResponse(collection)

    async def _change(self, request: Request) -> Response:
        self.writer(request)
        items = {item["_id"]: item for item in self._found(request)["items"]}
        if request.path_params["item"] not in items:
            raise Refused(404, None, "Item not found")
        items[request.path_params["item"]]["note"] = _note(await request.json())
        return JSONResponse({"success": True})


def _note(body: dict) -> dict | None:
    return {"text": body["note"], "html": body["note"]} if "note" in body else None
