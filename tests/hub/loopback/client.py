"""
A client of the Hub in a process of its own, with nothing patched: only HF_ENDPOINT, HF_TOKEN and HF_HOME are set.
Without an endpoint it is the real Hub's.

It reads one line of JSON for each step, `[NAME, ARGUMENTS]`, does it with huggingface_hub or with
`hf_primaldual.hub.publish`, and answers with a line: `{"result": ...}` or `{"error": CLASS: MESSAGE}`.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).parents[3]


def environment(endpoint: str | None, home: Path, token: str | None = "hf_test_write", xet: bool = True) -> dict:
    """Of a process that talks to the Hub."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    kept |= {"HF_HOME": str(home), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    kept |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": str(int(not xet))}
    given = {"HF_ENDPOINT": endpoint, "HF_TOKEN": token}
    return kept | {name: value for name, value in given.items() if value is not None}


class Client:
    """The process, seen from the test; `client("upload", folder=..., repo_id=...)` is one step."""

    def __init__(self, *where, **options):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environment(*where, **options)}
        self.process = subprocess.Popen([sys.executable, __file__], text=True, **pipes)

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

    def __call__(self, step: str, **arguments):
        """Does a step; an error of it is raised as `ClientError`."""
        self.start(step, **arguments)
        line = self.process.stdout.readline()
        assert line, f"the client ended with {self.process.wait(30)}"
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer["result"]


class ClientError(Exception):
    """What went wrong in the client's process, by its class and message."""


def upload(folder: str, repo_id: str, revision: str = "main", patterns: tuple = (), **options) -> dict:
    from huggingface_hub import HfApi

    from hf_primaldual.hub.publish import upload

    api = HfApi(token=options.pop("token", None))
    return asdict(upload(api, Path(folder), repo_id, revision, list(patterns), "a test", **options))


def publish(folder: str, repo_id: str, **options) -> dict:
    from hf_primaldual.hub.publish import publish

    done = publish(folder, repo_id, **options)
    return {**asdict(done), "shown": str(done)}


def api(method: str, **arguments) -> str:
    """A method of `HfApi`."""
    import huggingface_hub

    return str(getattr(huggingface_hub.HfApi(), method)(**arguments))


def run(code: str) -> str:
    """What a piece of Python prints, as one of docs/hub.md."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "code", "exec"), {})
    return printed.getvalue()


def main() -> None:
    # What libraries print must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        step, arguments = json.loads(line)
        try:
            answer = {"result": {"upload": upload, "publish": publish, "api": api, "run": run}[step](**arguments)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
