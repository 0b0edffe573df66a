"""The loopback test Hub's answers: the requests of huggingface_hub 2.4 that push and pull models, and no others."""

import asyncio
import base64
import json
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

from .collections import Collections
from .faults import Fault, Faults
from .refused import Refused
from .repository import File, Repository
from .storage import LATER, Storage

DATE = "2026-01-01T00:00:00.000000Z"
# Who may read private repositories, and who may write.
TOKENS = {"hf_test_write": ("tester", "write"), "hf_test_read": ("tester", "read")}
LARGE = (".safetensors", ".png", ".bin")
LARGEST_REGULAR = 5_000_000


@dataclass
class LoopbackHub:
    """A running test Hub; `with LoopbackHub(folder) as hub` starts and stops it."""

    folder: Path
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.storage = Storage(self.folder)
        self.collections = Collections(self._writer)

    def __enter__(self) -> "LoopbackHub":
        app = Starlette(
            routes=self._routes(), exception_handlers={Refused: _refuse, 404: self._unknown, 405: self._unknown}
        )
        config = uvicorn.Config(Faults(app, self.faults), host="127.0.0.1", port=0, log_level="error", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
            assert self._thread.is_alive(), "the test Hub did not start"
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *error):
        self._server.should_exit = True
        self._thread.join(10)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, method: str, part: str) -> int:
        """How many requests of the method had that in their path."""
        return sum(m == method and part in path for m, path in self.requests)

    def content(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        """Every file of a revision as whoever downloads it should get it."""
        files = self.repositories[repository].head(revision).files
        return {path: self._bytes(file) for path, file in files.items()}

    def _bytes(self, file: File) -> bytes:
        return file.content if file.sha256 is None else self.storage.path(file.sha256).read_bytes()

    def _routes(self) -> list[Route]:
        model = "/api/models/{owner}/{name}"
        file = "/{owner}/{name}/resolve/{revision}/{path:path}"
        table = [
            ("GET", "/api/whoami-v2", self._whoami),
            ("GET", "/api/agent-harnesses", self._nothing),
            ("GET", "/api/models", self._list),
            ("POST", "/api/repos/create", self._create),
            ("DELETE", "/api/repos/delete", self._delete),
            ("POST", "/api/validate-yaml", self._validate_yaml),
            ("POST", f"{model}/preupload/{{revision}}", self._preupload),
            ("POST", f"{model}/commit/{{revision}}", self._commit),
            ("POST", f"{model}/branch/{{branch}}", self._branch),
            ("POST", f"{model}/tag/{{revision}}", self._tag),
            ("POST", f"{model}/paths-info/{{revision}}", self._paths_info),
            ("GET", f"{model}/xet-write-token/{{revision}}", self._xet_token),
            ("GET", f"{model}/xet-read-token/{{revision}}", self._xet_token),
            ("GET", f"{model}/refs", self._refs),
            ("GET", f"{model}/commits/{{revision}}", self._commits),
            ("GET", f"{model}/tree/{{revision}}", self._tree),
            ("GET", f"{model}/tree/{{revision}}/{{path:path}}", self._tree),
            ("GET", f"{model}/revision/{{revision}}", self._info),
            ("GET", model, self._info),
            ("POST", "/{owner}/{name}.git/info/lfs/objects/batch", self._lfs_batch),
            ("PUT", "/lfs/{sha256}", self._lfs_put),
            ("POST", "/lfs/{sha256}/verify", self._lfs_verify),
            ("GET", "/cdn/{sha256}", self._cdn),
            ("GET", f"/api/resolve-cache{file}", self._cached),
            ("GET", file, self._resolve),
            *self.collections.table(),
        ]
        return [Route(path, self._recorded(handler), methods=[method]) for method, path, handler in table]

    def _recorded(self, handler):
        async def answer(request: Request) -> Response:
            self.requests.append((request.method, request.url.path))
            return await handler(request)

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
        if role == "none":
            raise Refused(401, None, "Invalid username or password.")
        if role != "write":
            raise Refused(403, None, "you must use a write token to upload to a repository.")
        return user

    def _repository(self, request: Request) -> Repository:
        user, _ = self._user(request)
        name = "{owner}/{name}".format(**request.path_params)
        repository = self.repositories.get(name)
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

    async def _whoami(self, request: Request) -> Response:
        user, role = self._user(request)
        if user is None:
            raise Refused(401, None, "Invalid username or password.")
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
        return JSONResponse({"type": "user", "name": user, "orgs": [], "auth": auth})

    async def _nothing(self, request: Request) -> Response:
        return JSONResponse({"error": "none"}, 404)

    # Repositories.

    async def _list(self, request: Request) -> Response:
        user, _ = self._user(request)
        author, asked = request.query_params.get("author"), request.query_params
        wanted = {*asked.getlist("filter"), *asked.getlist("pipeline_tag")}
        seen = [r for r in self.repositories.values() if user or not r.private]
        seen = [self._described(r, r.resolve("main")) for r in seen if author in (None, r.name.partition("/")[0])]
        return JSONResponse([model for model in seen if wanted <= {*model["tags"], model["pipeline_tag"]}])

    async def _create(self, request: Request) -> Response:
        user, body = self._writer(request), await request.json()
        name = f"{body.get('organization') or user}/{body['name']}"
        url = f"{self.endpoint}/{name}"
        if name in self.repositories:
            return JSONResponse({"error": "You already created this model repo", "url": url}, 409)
        self.repositories[name] = Repository(name, body.get("visibility") == "private" or bool(body.get("private")))
        return JSONResponse({"url": url, "name": name, "id": name})

    async def _delete(self, request: Request) -> Response:
        user, body = self._writer(request), await request.json()
        del self.repositories[f"{body.get('organization') or user}/{body['name']}"]
        return Response("OK")

    async def _info(self, request: Request) -> Response:
        return JSONResponse(self._described(*self._revision(request)))

    def _described(self, repository: Repository, oid: str) -> dict:
        files = repository.commits[oid].files
        card = files.get("README.md", File(b"")).content.decode()
        metadata = yaml.safe_load(card.split("---\n")[1]) if card.startswith("---\n") else {}
        return {
            "_id": repository.name,
            "id": repository.name,
            "modelId": repository.name,
            "author": repository.name.partition("/")[0],
            "sha": oid,
            "lastModified": DATE,
            "createdAt": DATE,
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [metadata.get("library_name"), *metadata.get("tags", [])],
            "library_name": metadata.get("library_name"),
            "pipeline_tag": metadata.get("pipeline_tag"),
            "cardData": metadata,
            "siblings": [{"rfilename": path} for path in files],
        }

    async def _refs(self, request: Request) -> Response:
        repository = self._repository(request)

        def listed(names: dict[str, str], prefix: str) -> list[dict]:
            return [{"name": name, "ref": prefix + name, "targetCommit": oid} for name, oid in names.items()]

        answer = {
            "branches": listed(repository.branches, "refs/heads/"),
            "tags": listed(repository.tags, "refs/tags/"),
            "converts": [],
        }
        if "include_prs" in request.query_params:
            answer["pullRequests"] = listed(repository.pulls, "")
        return JSONResponse(answer)

    async def _commits(self, request: Request) -> Response:
        repository, oid = self._revision(request)
        answer = []
        while oid is not None:
            commit = repository.commits[oid]
            answer.append({"id": oid, "title": commit.title, "message": "", "authors": [], "date": DATE})
            oid = commit.parent
        return JSONResponse(answer)

    async def _branch(self, request: Request) -> Response:
        self._writer(request)
        repository, branch = self._repository(request), unquote(request.path_params["branch"])
        if branch in repository.branches:
            raise Refused(409, None, f"Reference already exists: {branch}")
        start = repository.resolve((await request.json()).get("startingPoint", "main"))
        if start is None:
            raise Refused(404, "RevisionNotFound", "Invalid starting point")
        repository.branches[branch] = start
        return Response(status_code=201)

    async def _tag(self, request: Request) -> Response:
        self._writer(request)
        (repository, oid), tag = self._revision(request), (await request.json())["tag"]
        if tag in repository.tags:
            raise Refused(409, None, f"Tag already exists: {tag}")
        repository.tags[tag] = oid
        return Response(status_code=201)

    # Pushing.

    async def _validate_yaml(self, request: Request) -> Response:
        content = (await request.json())["content"]
        metadata = yaml.safe_load(content.split("---\n")[1]) if content.startswith("---\n") else {}
        licence = metadata.get("license", "other")
        errors = [] if isinstance(licence, str) else [{"message": '"license" must be a string'}]
        return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)

    async def _preupload(self, request: Request) -> Response:
        self._writer(request)
        repository, oid = self._revision(request)
        there, answer = repository.commits[oid].files, []
        for file in (await request.json())["files"]:
            path = file["path"]
            is_large = path.endswith(LARGE) or file["size"] > LARGEST_REGULAR
            entry = {"path": path, "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
            answer.append({**entry, "oid": there[path].etag} if path in there else entry)
        return JSONResponse({"files": answer})

    async def _xet_token(self, request: Request) -> Response:
        if "write" in request.url.path:
            self._writer(request)
        self._revision(request)
        answer = {"casUrl": self.storage.cas_url, "accessToken": "none", "exp": LATER}
        names = ("X-Xet-Cas-Url", "X-Xet-Access-Token", "X-Xet-Token-Expiration")
        headers = dict(zip(names, map(str, answer.values()), strict=True))
        return JSONResponse(answer, headers=headers)

    async def _lfs_batch(self, request: Request) -> Response:
        self._writer(request)
        self._repository(request)
        objects = []
        for entry in (await request.json())["objects"]:
            sha256 = entry["oid"]
            there = self.storage.path(sha256).exists()
            href = f"{self.endpoint}/lfs/{sha256}"
            actions = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            objects.append(entry if there else {**entry, "actions": actions})
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def _lfs_put(self, request: Request) -> Response:
        if not self.storage.put(request.path_params["sha256"], await request.body()):
            raise Refused(400, None, "the content has another sha256 than its name")
        return Response()

    async def _lfs_verify(self, request: Request) -> Response:
        path, body = self.storage.path(request.path_params["sha256"]), await request.json()
        if not path.exists() or path.stat().st_size != body["size"]:
            raise Refused(404, None, "no such object")
        return Response()

    async def _commit(self, request: Request) -> Response:
        user = self._writer(request)
        repository = self._repository(request)
        lines = [json.loads(line) for line in (await request.body()).splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        large = {}
        for value in (line["value"] for line in lines if line["key"] == "lfsFile"):
            large[value["path"]] = await asyncio.to_thread(self._large, value)
        # From here to the end nothing waits: two commits come one after the other.
        _, parent = self._revision(request)
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
                raise Refused(501, None, f"the test Hub does not know {key}")
        oid = repository.add(files, header["summary"], parent)
        answer = {"success": True, "commitOid": oid, "commitUrl": f"{self.endpoint}/{repository.name}/commit/{oid}"}
        if request.query_params.get("create_pr") == "1":
            number = len(repository.pulls) + 1
            repository.pulls[f"refs/pr/{number}"] = oid
            answer["pullRequestUrl"] = f"{self.endpoint}/{repository.name}/discussions/{number}"
        else:
            revision = unquote(request.path_params["revision"])
            names = repository.pulls if revision in repository.pulls else repository.branches
            if revision not in names:
                raise Refused(400, None, f"{user} cannot commit to {revision}, which is no branch")
            names[revision] = oid
        return JSONResponse(answer)

    def _large(self, value: dict) -> File:
        """A large file of a commit, which must have come already, by LFS or by Xet."""
        sha256 = value["oid"]
        xet_hash = self.storage.xet_hash(sha256)
        if xet_hash is not None and not self.storage.path(sha256).exists():
            self.storage.take_from_xet(sha256, value["size"], xet_hash)
        if not self.storage.path(sha256).exists():
            raise Refused(400, None, f"{value['path']} was not uploaded")
        return File.large(sha256, self.storage.path(sha256).stat().st_size, xet_hash)

    # Pulling.

    async def _tree(self, request: Request) -> Response:
        repository, oid = self._revision(request)
        files = repository.commits[oid].files
        under = request.path_params.get("path", "")
        found = {path: file for path, file in files.items() if path.startswith(f"{under}/" if under else "")}
        return JSONResponse([_entry(path, file) for path, file in found.items()])

    async def _paths_info(self, request: Request) -> Response:
        repository, oid = self._revision(request)
        files = repository.commits[oid].files
        paths = (await request.form()).getlist("paths")
        return JSONResponse([_entry(path, files[path]) for path in paths if path in files])

    def _found(self, request: Request) -> tuple[File, str, dict[str, str]]:
        repository, oid = self._revision(request)
        path, headers = unquote(request.path_params["path"]), {"X-Repo-Commit": oid}
        file = repository.commits[oid].files.get(path)
        if file is None:
            raise Refused(404, "EntryNotFound", "Entry not found", headers)
        return file, oid, headers

    async def _resolve(self, request: Request) -> Response:
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

    async def _cached(self, request: Request) -> Response:
        file, _, headers = self._found(request)
        return Response(file.content, headers={**headers, "ETag": f'"{file.oid}"'}, media_type="text/plain")

    async def _cdn(self, request: Request) -> Response:
        content = self.storage.path(request.path_params["sha256"]).read_bytes()
        headers = {"ETag": f'"{request.path_params["sha256"]}"', "Accept-Ranges": "bytes"}
        first = request.headers.get("range", "").removeprefix("bytes=").partition("-")[0]
        if not first:
            return Response(content, headers=headers)
        headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return Response(content[int(first) :], 206, headers)


def _entry(path: str, file: File) -> dict:
    entry = {"type": "file", "path": path, "size": file.length, "oid": file.oid}
    if file.sha256 is not None:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.content)}
        if file.xet_hash is not None:
            entry["xetHash"] = file.xet_hash
    return entry


async def _refuse(request: Request, error: Refused) -> Response:
    return error.response
