"""
A client of the Hub in a process of its own, with nothing patched: only HF_ENDPOINT, HF_TOKEN and HF_HOME are set.
Without an endpoint it is the real Hub's.

It reads one line of JSON for each step, `[NAME, ARGUMENTS]`, does it with huggingface_hub or with
`hf_primaldual.hub.publish`, and answers with a line: `{"result": ...}` or `{"error": CLASS, "message": ...}`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


class Client:
    """The process, seen from the test; `client("upload", folder=..., repo_id=...)` is one step."""

    def __init__(
        self, endpoint: str | None, home: Path, token: str | None = "hf_test_write", xet: bool = True, prefix=()
    ):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_HOME": str(home), "PYTHONPATH": str(ROOT / "src")}
        environment |= {} if endpoint is None else {"HF_ENDPOINT": endpoint}
        environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        environment |= {} if token is None else {"HF_TOKEN": token}
        environment |= {} if xet else {"HF_HUB_DISABLE_XET": "1"}
        self.environment = environment
        self.process = subprocess.Popen(
            [*prefix, sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def start(self, step: str, **arguments) -> None:
        """Sends a step, and does not wait for it."""
        self.process.stdin.write(json.dumps([step, arguments], default=str) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict:
        """What the step that was sent gave."""
        line = self.process.stdout.readline()
        assert line, f"the client ended with {self.process.wait(30)}"
        return json.loads(line)

    def __call__(self, step: str, **arguments):
        """Does a step; an error of it is raised as `ClientError`."""
        self.start(step, **arguments)
        answer = self.answer()
        if "error" in answer:
            raise ClientError(f"{answer['error']}: {answer['message']}")
        return answer["result"]


class ClientError(Exception):
    """What went wrong in the client's process, by its class and message."""


def upload(folder: str, repo_id: str, **options) -> dict:
    from hf_primaldual.hub import publish

    found = sorted(path for path in Path(folder).iterdir() if path.is_file())
    done = publish.upload(found, repo_id, **options)
    return {"commit": done.commit, "removed": done.removed, "kept": done.kept, "url": done.url, "shown": str(done)}


def publish(folder: str, repo_id: str, **options) -> dict:
    from hf_primaldual.hub import publish

    done = publish.publish(folder, repo_id, **options)
    return {"commit": done.commit, "removed": done.removed, "kept": done.kept, "shown": str(done)}


def snapshot(repo_id: str, **options) -> str:
    import huggingface_hub

    return huggingface_hub.snapshot_download(repo_id, **options)


def pull(repo_id: str) -> str:
    from hf_primaldual.hub.pull import pull

    return str(pull(repo_id))


def add_to_collection(title: str, repo_ids: list[str], **options) -> dict:
    from hf_primaldual.hub.collections import add_to_collection

    collection = add_to_collection(title, repo_ids, **options)
    notes = {item.item_id: item.note for item in collection.items}
    return {"slug": collection.slug, "url": collection.url, "notes": notes}


def found(tags: list[str], pipeline_tag: str | None = None) -> list[str]:
    import huggingface_hub

    models = huggingface_hub.HfApi().list_models(filter=tags, pipeline_tag=pipeline_tag)
    return [model.id for model in models]


def api(method: str, **arguments) -> str:
    import huggingface_hub

    return str(getattr(huggingface_hub.HfApi(), method)(**arguments))


def whoami() -> str:
    import huggingface_hub

    return huggingface_hub.whoami()["name"]


def collect(repo_ids: list[str]) -> dict:
    from hf_primaldual.hub.collect import collect, format_collected

    rows = collect(repo_ids)
    return {"rows": rows, "table": format_collected(rows)}


def main() -> None:
    # What libraries print must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    every = (upload, publish, snapshot, pull, api, whoami, collect, add_to_collection, found)
    steps = {step.__name__: step for step in every}
    for line in sys.stdin:
        step, arguments = json.loads(line)
        try:
            answer = {"result": steps[step](**arguments)}
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
