"""The loopback test Hub's answers: the requests of huggingface_hub 2.4 that the tests make, and no others."""

import asyncio
import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from .repository import LATER, File, Repository, from_xet

# Whose bearer may write, and read what is private.
TOKEN, OWNER = "hf_test_write", "tester"


class Refused(Exception):
    """An answer that is an error, with the Hub's code for it."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str):
        told = {"X-Error-Message": message, "X-Error-Code": code, **headers}
        self.response = JSONResponse({"error": message}, status, {name: text for name, text in told.items() if text})


@dataclass
class Fault:
    """
    An accident of the next request with that in its method and path.

    `kind` is a status, which is the answer; `cut`, the connection is closed after a first piece of the body has come;
    `lost`, once the request has been carried out; or a function that is called first.
    """

    request: str
    kind: int | str | Callable[[], None]
    seen: bool = False


@dataclass
class LoopbackHub:
    """A running test Hub; `with LoopbackHub(folder) as hub` starts and stops it."""

    folder: Path
    repositories: dict[str, Repository] = field(default_factory=dict)
    collections: dict[str, dict] = field(default_factory=dict)
    large: dict[str, File] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def __enter__(self) -> "LoopbackHub":
        self.folder.mkdir()
        answers = {Refused: lambda _, error: error.response, 404: self._unknown, 405: self._unknown}
        app = Starlette(routes=self._routes(), exception_handlers=answers)

        async def quoted(scope, receive, send):
            # Routes match quoted segments: a revision such as refs/pr/1 is one of them.
            await app({**scope, "path": scope["raw_path"].decode()}, receive, send)

        self._server = uvicorn.Server(uvicorn.Config(quoted, "127.0.0.1", 0, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
            assert self._thread.is_alive(), "the test Hub did not start"
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *error):
        self._server.should_exit = True
        self._thread.join(10)

    def count(self, part: str) -> int:
        """How many requests had that in their method and path."""
        return sum(part in request for request in self.requests)

    def content(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """Every file of a revision, but for the Hub's own."""
        repository = self.repositories[name]
        files = repository.commits[repository.resolve(revision)]
        return {path: file.content for path, file in files.items() if path != ".gitattributes"}

    def _routes(self) -> list[Route]:
        table = [
            ("GET", "/api/agent-harnesses", self._nothing),
            ("GET", "/api/models", self._list),
            ("POST", "/api/repos/create", self._create),
            ("DELETE", "/api/repos/delete", self._delete),
            ("POST", "/api/validate-yaml", self._validate_yaml),
            ("PUT", "/lfs/{sha256}", self._lfs_put),
            ("GET", "/cdn/{sha256}", self._cdn),
            ("GET", "/{owner}/{name}/resolve/{revision}/{path:path}", self._resolve),
            ("POST", "/api/collections", self._new_collection),
            ("GET", "/api/collections/{slug:path}", self._collection),
            ("DELETE", "/api/collections/{slug:path}", self._collection),
            ("POST", "/api/collections/{slug:path}/items", self._collection),
        ]
        for kind, place in (("models", ""), ("spaces", "/spaces")):
            there = f"/api/{kind}/{{owner}}/{{name}}"
            table += [
                ("POST", f"{place}/{{owner}}/{{name}}.git/info/lfs/objects/batch", self._lfs_batch),
                ("POST", f"{there}/preupload/{{revision}}", self._preupload),
                ("POST", f"{there}/commit/{{revision}}", self._commit),
                ("POST", f"{there}/branch/{{branch}}", self._ref),
                ("POST", f"{there}/tag/{{revision}}", self._ref),
                ("GET", f"{there}/xet-write-token/{{revision}}", self._xet_token),
                ("GET", f"{there}/xet-read-token/{{revision}}", self._xet_token),
                ("GET", f"{there}/refs", self._refs),
                ("GET", f"{there}/tree/{{revision}}", self._tree),
                ("POST", f"{there}/paths-info/{{revision}}", self._paths_info),
                ("GET", f"{there}/revision/{{revision}}", self._info),
                ("GET", there, self._info),
            ]
        return [Route(path, self._recorded(handler), methods=[method]) for method, path, handler in table]

    def _recorded(self, handler):
        """The handler of a request that is noted, and may meet with a fault."""

        async def answer(request: Request) -> Response:
            asked = f"{request.method} {request.url.path}"
            self.requests.append(asked)
            if not _is_owner(request) and re.search("^(POST|DELETE)(?!.*paths-info)|xet-write", asked):
                raise Refused(401, "you must use a write token to upload to a repository.")
            fault = next((one for one in self.faults if not one.seen and one.request in asked), None)
            kind = fault and fault.kind
            if fault:
                fault.seen = True
            if isinstance(kind, int):
                await request.body()
                return Response("an injected fault", kind, {"Retry-After": "0"})
            if callable(kind):
                kind()
            if kind == "cut":
                await request.receive()
            else:
                found = await handler(request)
            if kind in ("cut", "lost"):
                # uvicorn's cycle of one request and its answer: nothing of ASGI closes a connection.
                request.receive.__self__.transport.abort()
                return Response()
            return found if isinstance(found, Response) else JSONResponse(found)

        return answer

    async def _unknown(self, request: Request, error: Exception) -> Response:
        self.unknown.append(f"{request.method} {request.url.path}")
        return JSONResponse({"error": "the test Hub does not know this request"}, 501)

    def _found(self, request: Request) -> tuple[Repository, str]:
        """The repository that is asked for, and the id of the commit."""
        repository = self.repositories.get(_name(request))
        known = _is_owner(request)
        if repository is None or (repository.private and not known):
            raise Refused(404 if known else 401, "Repository not found", "RepoNotFound")
        revision = unquote(request.path_params.get("revision", "main"))
        oid = repository.resolve(revision)
        if oid is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repository, oid

    async def _nothing(self, request: Request):
        return JSONResponse({"error": "none"}, 404)

    # Repositories.

    async def _list(self, request: Request):
        wanted = set(request.query_params.getlist("filter"))
        seen = [_described(name, found, found.resolve("main")) for name, found in self.repositories.items()]
        return [model for model in seen if wanted <= {*model["tags"]}]

    async def _create(self, request: Request):
        body = await request.json()
        name = f"{body.get('organization') or OWNER}/{body['name']}"
        url = f"{self.endpoint}/{'spaces/' if body.get('sdk') else ''}{name}"
        if name in self.repositories:
            return JSONResponse({"error": "You already created this repo", "url": url}, 409)
        self.repositories[name] = Repository(body.get("visibility") == "private" or bool(body.get("private")))
        return {"url": url, "name": name, "id": name}

    async def _delete(self, request: Request):
        body = await request.json()
        self.repositories.pop(f"{body.get('organization') or OWNER}/{body['name']}", None)
        return Response("OK")

    async def _info(self, request: Request):
        return _described(_name(request), *self._found(request))

    async def _refs(self, request: Request):
        refs = self._found(request)[0].refs
        listed = [{"name": ref.split("/", 2)[2], "ref": ref, "targetCommit": oid} for ref, oid in refs.items()]
        kinds = {"branches": "refs/heads/", "tags": "refs/tags/", "converts": "refs/convert/"}
        return {kind: [one for one in listed if one["ref"].startswith(start)] for kind, start in kinds.items()}

    async def _ref(self, request: Request):
        (repository, oid), branch = self._found(request), request.path_params.get("branch")
        ref = f"refs/heads/{branch}" if branch else f"refs/tags/{(await request.json())['tag']}"
        if ref in repository.refs:
            raise Refused(409, f"Reference already exists: {ref}")
        repository.refs[ref] = oid
        return Response(status_code=201)

    # Pushing.

    async def _validate_yaml(self, request: Request):
        return {"errors": [], "warnings": []}

    async def _preupload(self, request: Request):
        repository, oid = self._found(request)
        there, answer = repository.commits[oid], []
        for file in (await request.json())["files"]:
            path = file["path"]
            mode = "lfs" if path.endswith((".safetensors", ".png")) else "regular"
            entry = {"path": path, "uploadMode": mode, "shouldIgnore": False}
            answer.append({**entry, "oid": there[path].sha256 or there[path].oid} if path in there else entry)
        return {"files": answer}

    async def _xet_token(self, request: Request):
        self._found(request)
        answer = {"casUrl": f"local://{self.folder}", "accessToken": "none", "exp": LATER}
        names = ("X-Xet-Cas-Url", "X-Xet-Access-Token", "X-Xet-Token-Expiration")
        return JSONResponse(answer, headers=dict(zip(names, map(str, answer.values()), strict=True)))

    async def _lfs_batch(self, request: Request):
        objects = []
        for entry in (await request.json())["objects"]:
            actions = {"upload": {"href": f"{self.endpoint}/lfs/{entry['oid']}"}}
            objects.append(entry if entry["oid"] in self.large else {**entry, "actions": actions})
        return {"transfer": "basic", "objects": objects}

    async def _lfs_put(self, request: Request):
        sha256, content = request.path_params["sha256"], await request.body()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Refused(400, "the content has another sha256 than its name")
        self.large[sha256] = File(content, sha256)
        return Response()

    async def _commit(self, request: Request):
        lines = [json.loads(line) for line in (await request.body()).splitlines()]
        for value in (line["value"] for line in lines if line["key"] == "lfsFile"):
            if value["oid"] not in self.large:
                found = await asyncio.to_thread(from_xet, self.folder, value["oid"], value["size"])
                if found is None:
                    raise Refused(400, f"{value['path']} was not uploaded")
                self.large[value["oid"]] = found
        # From here to the end nothing waits: two commits come one after the other.
        repository, parent = self._found(request)
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", parent) != parent:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.commits[parent])
        for key, value in ((line["key"], line["value"]) for line in lines):
            if key == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
            elif key != "header":
                self.unknown.append(f"{key} in a commit")
        place = "spaces/" if request.url.path.startswith("/api/spaces/") else ""
        url, proposal = f"{self.endpoint}/{place}{_name(request)}", {}
        ref = f"refs/heads/{request.path_params['revision']}"
        if request.query_params.get("create_pr") == "1":
            ref, proposal = "refs/pr/1", {"pullRequestUrl": f"{url}/discussions/1"}
        oid = repository.commit(ref, files)
        return {"success": True, "commitOid": oid, "commitUrl": f"{url}/commit/{oid}", **proposal}

    # Pulling.

    async def _tree(self, request: Request):
        repository, oid = self._found(request)
        return [file.entry(path) for path, file in repository.commits[oid].items()]

    async def _paths_info(self, request: Request):
        # What olah asks for.
        paths = (await request.form()).getlist("paths")
        return [entry for entry in await self._tree(request) if entry["path"] in paths]

    async def _resolve(self, request: Request):
        repository, oid = self._found(request)
        file, headers = repository.commits[oid].get(unquote(request.path_params["path"])), {"X-Repo-Commit": oid}
        if file is None:
            raise Refused(404, "Entry not found", "EntryNotFound", **headers)
        if file.sha256 is None:
            return Response(file.content, headers={**headers, "ETag": f'"{file.oid}"'}, media_type="text/plain")
        headers |= {"X-Linked-ETag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
        if file.xet_hash is not None:
            auth = f"{self.endpoint}/api/models/{_name(request)}/xet-read-token/{oid}"
            headers |= {"X-Xet-Hash": file.xet_hash, "Link": f'<{auth}>; rel="xet-auth"'}
        # Another host than the endpoint: the client must not follow a HEAD there.
        return RedirectResponse(f"http://localhost:{self.port}/cdn/{file.sha256}", 302, headers)

    async def _cdn(self, request: Request):
        file = self.large[request.path_params["sha256"]]
        return Response(file.content, headers={"ETag": f'"{file.sha256}"'})

    # Collections, as the Python of docs/hub.md makes one.

    async def _new_collection(self, request: Request):
        body = await request.json()
        slug = f"{body['namespace']}/{re.sub('[^a-z0-9]+', '-', body['title'].lower())}-{0:024x}"
        about = {"slug": slug, "title": body["title"], "owner": {"name": body["namespace"]}, "items": []}
        about |= {"private": body["private"], "position": 0, "theme": "green", "upvotes": 0}
        self.collections[slug] = {**about, "lastUpdated": "2026-01-01T00:00:00.000000Z"}
        return self.collections[slug]

    async def _collection(self, request: Request):
        slug = request.path_params["slug"]
        if request.method == "DELETE":
            return self.collections.pop(slug)
        if request.method == "POST":
            body = await request.json()
            note = {"text": body["note"], "html": body["note"]}
            self.collections[slug]["items"].append({"_id": "0" * 24, **body["item"], "position": 0, "note": note})
        return self.collections[slug]


def _name(request: Request) -> str:
    return "{owner}/{name}".format(**request.path_params)


def _is_owner(request: Request) -> bool:
    header = request.headers.get("authorization")
    if header not in (None, f"Bearer {TOKEN}"):
        raise Refused(401, "Invalid credentials in Authorization header")
    return header is not None


def _described(name: str, repository: Repository, oid: str) -> dict:
    files = repository.commits[oid]
    card = files.get("README.md", File(b"")).content.decode()
    metadata = yaml.safe_load(card.split("---\n")[1]) if card.startswith("---\n") else {}
    return {
        "_id": name,
        "id": name,
        "sha": oid,
        "private": repository.private,
        "tags": [metadata.get("library_name"), *metadata.get("tags", [])],
        "siblings": [{"rfilename": path} for path in files],
    }
