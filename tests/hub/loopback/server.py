"""The loopback test Hub's answers: the requests of huggingface_hub 2.4 that the tests make, and no others."""

import asyncio
import base64
import json
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from .faults import Fault, Faults
from .repository import File, Repository
from .storage import LATER, Storage

DATE = "2026-01-01T00:00:00.000000Z"
# Who may read private repositories, and who may write.
TOKENS = {"hf_test_write": ("tester", "write"), "hf_test_read": ("tester", "read")}
LARGE = (".safetensors", ".png", ".bin")
LARGEST_REGULAR = 5_000_000


class Refused(Exception):
    """An answer that is an error, with the Hub's code for it."""

    def __init__(self, status: int, code: str | None, message: str, headers: dict[str, str] | None = None):
        self.response = JSONResponse({"error": message}, status, headers)
        self.response.headers["X-Error-Message"] = message
        if code is not None:
            self.response.headers["X-Error-Code"] = code


@dataclass
class LoopbackHub:
    """A running test Hub; `with LoopbackHub(folder) as hub` starts and stops it."""

    folder: Path
    repositories: dict[str, Repository] = field(default_factory=dict)
    collections: dict[str, dict] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def __enter__(self) -> "LoopbackHub":
        self.storage = Storage(self.folder)
        answers = {Refused: _refuse, 404: self._unknown, 405: self._unknown}
        app = Faults(Starlette(routes=self._routes(), exception_handlers=answers), self.faults)
        self._server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", 0, log_level="error", lifespan="off"))
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

    def count(self, method: str, part: str) -> int:
        """How many requests of the method had that in their path."""
        return sum(m == method and part in path for m, path in self.requests)

    def content(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        """Every file of a revision as whoever downloads it should get it, but for the Hub's own."""
        files = self.repositories[repository].head(revision).files
        found = {path: self.storage.read(file.sha256) if file.sha256 else file.content for path, file in files.items()}
        del found[".gitattributes"]
        return found

    def _routes(self) -> list[Route]:
        model = "/api/models/{owner}/{name}"
        file = "/{owner}/{name}/resolve/{revision}/{path:path}"
        collection = "/api/collections/{owner}/{slug}"
        table = [
            ("GET", "/api/agent-harnesses", self._nothing),
            ("GET", "/api/models", self._list),
            ("POST", "/api/repos/create", self._create),
            ("DELETE", "/api/repos/delete", self._delete),
            ("POST", "/api/validate-yaml", self._validate_yaml),
            ("POST", f"{model}/preupload/{{revision}}", self._preupload),
            ("POST", f"{model}/commit/{{revision}}", self._commit),
            ("POST", f"{model}/branch/{{branch}}", self._branch),
            ("POST", f"{model}/tag/{{revision}}", self._tag),
            ("POST", f"{model}/discussions", self._propose),
            ("GET", f"{model}/discussions/{{number}}", self._proposal),
            ("GET", f"{model}/xet-write-token/{{revision}}", self._xet_token),
            ("GET", f"{model}/xet-read-token/{{revision}}", self._xet_token),
            ("GET", f"{model}/refs", self._refs),
            ("GET", f"{model}/tree/{{revision}}", self._tree),
            ("POST", f"{model}/paths-info/{{revision}}", self._paths_info),
            ("GET", f"{model}/revision/{{revision}}", self._info),
            ("GET", model, self._info),
            ("POST", "/{owner}/{name}.git/info/lfs/objects/batch", self._lfs_batch),
            ("PUT", "/lfs/{sha256}", self._lfs_put),
            ("GET", "/cdn/{sha256}", self._cdn),
            ("GET", f"/api/resolve-cache{file}", self._cached),
            ("GET", file, self._resolve),
            ("POST", "/api/collections", self._collection),
            ("GET", collection, self._collected),
            ("DELETE", collection, self._uncollect),
            ("POST", f"{collection}/items", self._collect),
        ]
        return [Route(path, self._recorded(handler), methods=[method]) for method, path, handler in table]

    def _recorded(self, handler):
        async def answer(request: Request) -> Response:
            self.requests.append((request.method, request.url.path))
            found = await handler(request)
            return found if isinstance(found, Response) else JSONResponse(found)

        return answer

    async def _unknown(self, request: Request, error: Exception) -> Response:
        self.unknown.append(f"{request.method} {request.url.path}")
        return JSONResponse({"error": "the test Hub does not know this request"}, 501)

    # Who asks, and for what.

    def _user(self, request: Request) -> tuple[str | None, str]:
        header = request.headers.get("authorization")
        if header is None:
            return None, "none"
        token = header.removeprefix("Bearer ")
        if token not in TOKENS:
            raise Refused(401, None, "Invalid credentials in Authorization header")
        return TOKENS[token]

    def _writer(self, request: Request) -> str:
        user, role = self._user(request)
        if role != "write":
            status = 401 if user is None else 403
            raise Refused(status, None, "you must use a write token to upload to a repository.")
        return user

    def _repository(self, request: Request) -> Repository:
        user, _ = self._user(request)
        repository = self.repositories.get("{owner}/{name}".format(**request.path_params))
        if repository is None or (repository.private and user is None):
            raise Refused(401 if user is None else 404, "RepoNotFound", "Repository not found")
        return repository

    def _revision(self, request: Request) -> tuple[Repository, str]:
        repository = self._repository(request)
        revision = unquote(request.path_params.get("revision", "main"))
        if request.query_params.get("create_pr") == "1":
            # The client then asks for a token to write with at the revision `None`.
            revision = "main"
        oid = repository.resolve(revision)
        if oid is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, oid

    async def _nothing(self, request: Request):
        return JSONResponse({"error": "none"}, 404)

    # Repositories.

    async def _list(self, request: Request):
        user, _ = self._user(request)
        wanted = set(request.query_params.getlist("filter"))
        seen = [self._described(r, r.resolve("main")) for r in self.repositories.values() if user or not r.private]
        return [model for model in seen if wanted <= {*model["tags"]}]

    async def _create(self, request: Request):
        user, body = self._writer(request), await request.json()
        name = f"{body.get('organization') or user}/{body['name']}"
        url = f"{self.endpoint}/{name}"
        if name in self.repositories:
            return JSONResponse({"error": "You already created this model repo", "url": url}, 409)
        self.repositories[name] = Repository(name, body.get("visibility") == "private" or bool(body.get("private")))
        return {"url": url, "name": name, "id": name}

    async def _delete(self, request: Request):
        user, body = self._writer(request), await request.json()
        self.repositories.pop(f"{body.get('organization') or user}/{body['name']}", None)
        return Response("OK")

    async def _info(self, request: Request):
        return self._described(*self._revision(request))

    def _described(self, repository: Repository, oid: str) -> dict:
        files = repository.commits[oid].files
        metadata = _front(files.get("README.md", File(b"")).content.decode())
        return {
            "_id": repository.name,
            "id": repository.name,
            "sha": oid,
            "lastModified": DATE,
            "createdAt": DATE,
            "private": repository.private,
            "tags": [metadata.get("library_name"), *metadata.get("tags", [])],
            "siblings": [{"rfilename": path} for path in files],
        }

    async def _refs(self, request: Request):
        repository = self._repository(request)

        def listed(names: dict[str, str], prefix: str) -> list[dict]:
            return [{"name": name, "ref": prefix + name, "targetCommit": oid} for name, oid in names.items()]

        branches, tags = listed(repository.branches, "refs/heads/"), listed(repository.tags, "refs/tags/")
        return {"branches": branches, "tags": tags, "converts": []}

    async def _branch(self, request: Request):
        self._writer(request)
        repository, branch = self._repository(request), unquote(request.path_params["branch"])
        if branch in repository.branches:
            raise Refused(409, None, f"Reference already exists: {branch}")
        repository.branches[branch] = repository.resolve("main")
        return Response(status_code=201)

    async def _tag(self, request: Request):
        self._writer(request)
        (repository, oid), tag = self._revision(request), (await request.json())["tag"]
        if tag in repository.tags:
            raise Refused(409, None, f"Tag already exists: {tag}")
        repository.tags[tag] = oid
        return Response(status_code=201)

    async def _propose(self, request: Request):
        self._writer(request)
        repository = self._repository(request)
        number = len(repository.pulls) + 1
        repository.pulls[f"refs/pr/{number}"] = repository.resolve("main")
        return {"num": number}

    async def _proposal(self, request: Request):
        repository, number = self._repository(request), int(request.path_params["number"])
        changes = {"base": "refs/heads/main"}
        about = {"title": "", "num": number, "createdAt": DATE, "status": "draft", "isPullRequest": True, "events": []}
        about |= {"repo": {"name": repository.name, "type": "model"}, "changes": changes, "filesWithConflicts": []}
        return about

    # Pushing.

    async def _validate_yaml(self, request: Request):
        return {"errors": [], "warnings": []}

    async def _preupload(self, request: Request):
        self._writer(request)
        repository, oid = self._revision(request)
        there, answer = repository.commits[oid].files, []
        for file in (await request.json())["files"]:
            path = file["path"]
            is_large = path.endswith(LARGE) or file["size"] > LARGEST_REGULAR
            entry = {"path": path, "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
            answer.append({**entry, "oid": there[path].etag} if path in there else entry)
        return {"files": answer}

    async def _xet_token(self, request: Request):
        if "write" in request.url.path:
            self._writer(request)
        self._revision(request)
        answer = {"casUrl": self.storage.cas_url, "accessToken": "none", "exp": LATER}
        names = ("X-Xet-Cas-Url", "X-Xet-Access-Token", "X-Xet-Token-Expiration")
        return JSONResponse(answer, headers=dict(zip(names, map(str, answer.values()), strict=True)))

    async def _lfs_batch(self, request: Request):
        self._writer(request)
        objects = []
        for entry in (await request.json())["objects"]:
            actions = {"upload": {"href": f"{self.endpoint}/lfs/{entry['oid']}"}}
            there = self.storage.path(entry["oid"]).exists()
            objects.append(entry if there else {**entry, "actions": actions})
        return {"transfer": "basic", "objects": objects}

    async def _lfs_put(self, request: Request):
        if not self.storage.put(request.path_params["sha256"], await request.body()):
            raise Refused(400, None, "the content has another sha256 than its name")
        return Response()

    async def _commit(self, request: Request):
        self._writer(request)
        lines = [json.loads(line) for line in (await request.body()).splitlines()]
        large = {}
        for value in (line["value"] for line in lines if line["key"] == "lfsFile"):
            large[value["path"]] = await asyncio.to_thread(self._large, value)
        # From here to the end nothing waits: two commits come one after the other.
        repository, parent = self._revision(request)
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", parent) != parent:
            raise Refused(412, None, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.commits[parent].files)
        for key, value in ((line["key"], line["value"]) for line in lines):
            if key == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                files[value["path"]] = large[value["path"]]
            elif key == "deletedFile":
                del files[value["path"]]
            elif key != "header":
                self.unknown.append(f"{key} in a commit")
        oid = repository.add(files, header["summary"], parent)
        answer = {"success": True, "commitOid": oid, "commitUrl": f"{self.endpoint}/{repository.name}/commit/{oid}"}
        revision = unquote(request.path_params["revision"])
        if request.query_params.get("create_pr") == "1":
            # By LFS; by Xet the client opens the pull request first.
            number = len(repository.pulls) + 1
            revision = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{self.endpoint}/{repository.name}/discussions/{number}"
        names = repository.pulls if revision.startswith("refs/pr/") else repository.branches
        names[revision] = oid
        return answer

    def _large(self, value: dict) -> File:
        """A large file of a commit, which must have come already, by LFS or by Xet."""
        sha256, size = value["oid"], value["size"]
        xet_hash = self.storage.xet_hash(sha256)
        if xet_hash is not None and not self.storage.path(sha256).exists():
            self.storage.take_from_xet(sha256, size, xet_hash)
        if not self.storage.path(sha256).exists():
            raise Refused(400, None, f"{value['path']} was not uploaded")
        return File.large(sha256, self.storage.path(sha256).stat().st_size, xet_hash)

    # Pulling.

    async def _tree(self, request: Request):
        repository, oid = self._revision(request)
        return [file.entry(path) for path, file in repository.commits[oid].files.items()]

    async def _paths_info(self, request: Request):
        # What olah asks for.
        repository, oid = self._revision(request)
        paths = (await request.form()).getlist("paths")
        return [file.entry(path) for path, file in repository.commits[oid].files.items() if path in paths]

    def _found(self, request: Request) -> tuple[File, str, dict[str, str]]:
        repository, oid = self._revision(request)
        path, headers = unquote(request.path_params["path"]), {"X-Repo-Commit": oid}
        file = repository.commits[oid].files.get(path)
        if file is None:
            raise Refused(404, "EntryNotFound", "Entry not found", headers)
        return file, oid, headers

    async def _resolve(self, request: Request):
        file, oid, headers = self._found(request)
        if file.sha256 is None:
            where = "{owner}/{name}/resolve/{}/{path}".format(oid, **request.path_params)
            # On the same host, so that the client follows it.
            return RedirectResponse(f"/api/resolve-cache/{where}", 307, headers)
        headers |= {"X-Linked-ETag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        if file.xet_hash is not None:
            name = "{owner}/{name}".format(**request.path_params)
            auth = f"{self.endpoint}/api/models/{name}/xet-read-token/{oid}"
            headers |= {"X-Xet-Hash": file.xet_hash, "Link": f'<{auth}>; rel="xet-auth"'}
        # Another host than the endpoint: the client must not follow a HEAD there.
        return RedirectResponse(f"http://localhost:{self.port}/cdn/{quote(file.sha256)}", 302, headers)

    async def _cached(self, request: Request):
        file, _, headers = self._found(request)
        return Response(file.content, headers={**headers, "ETag": f'"{file.oid}"'}, media_type="text/plain")

    async def _cdn(self, request: Request):
        sha256 = request.path_params["sha256"]
        return Response(self.storage.read(sha256), headers={"ETag": f'"{sha256}"'})

    # Collections.

    async def _collection(self, request: Request):
        self._writer(request)
        body = await request.json()
        slug = f"{body['namespace']}/{re.sub('[^a-z0-9]+', '-', body['title'].lower())}-{0:024x}"
        if slug in self.collections:
            return JSONResponse({"error": "This collection already exists", "slug": slug}, 409)
        about = {"slug": slug, "title": body["title"], "owner": {"name": body["namespace"]}, "lastUpdated": DATE}
        about |= {"private": body["private"], "position": 0, "theme": "green", "upvotes": 0, "description": None}
        self.collections[slug] = {**about, "items": []}
        return self.collections[slug]

    async def _collected(self, request: Request):
        return self.collections["{owner}/{slug}".format(**request.path_params)]

    async def _uncollect(self, request: Request):
        self._writer(request)
        del self.collections["{owner}/{slug}".format(**request.path_params)]
        return {"success": True}

    async def _collect(self, request: Request):
        self._writer(request)
        collection, body = await self._collected(request), await request.json()
        if any(item["id"] == body["item"]["id"] for item in collection["items"]):
            return JSONResponse({"error": "The item is in the collection already"}, 409)
        note = {"text": body["note"], "html": body["note"]}
        collection["items"].append({"_id": f"{0:024x}", **body["item"], "position": 0, "note": note})
        return collection


def _front(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1]) if card.startswith("---\n") else {}


async def _refuse(request: Request, error: Refused) -> Response:
    return error.response
