"""
A client of the Hub in a process of its own, with nothing patched: only HF_ENDPOINT, HF_TOKEN and HF_HOME are set.
Without an endpoint it is the real Hub's.

It reads one line of JSON for each step, `[NAME, ARGUMENTS]`, does it with huggingface_hub or with
`hf_primaldual.hub.publish`, and answers with a line: `{"result": ...}` or `{"error": CLASS, "message": ...}`.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


class Client:
    """The process, seen from the test; `client("upload", folder=..., repo_id=...)` is one step."""

    def __init__(self, endpoint: str | None, home: Path, token: str | None = "hf_test_write", xet: bool = True):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_HOME": str(home), "PYTHONPATH": str(ROOT / "src")}
        environment |= {} if endpoint is None else {"HF_ENDPOINT": endpoint}
        environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        environment |= {} if token is None else {"HF_TOKEN": token}
        environment |= {} if xet else {"HF_HUB_DISABLE_XET": "1"}
        self.environment = environment
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, __file__], env=environment, text=True, **pipes)

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


def _shown(done) -> dict:
    return {"commit": done.commit, "removed": done.removed, "kept": done.kept, "url": done.url, "shown": str(done)}


def upload(folder: str, repo_id: str, **options) -> dict:
    from hf_primaldual.hub import publish

    return _shown(publish.upload(folder, repo_id, **options))


def publish(folder: str, repo_id: str, **options) -> dict:
    from hf_primaldual.hub import publish

    return _shown(publish.publish(folder, repo_id, **options))


def api(method: str, **arguments) -> str:
    """A method of `HfApi`."""
    import huggingface_hub

    return str(getattr(huggingface_hub.HfApi(), method)(**arguments))


def run(code: str, **names) -> str:
    """What a piece of Python prints, as one of docs/hub.md."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "code", "exec"), names)
    return printed.getvalue()


def main() -> None:
    # What libraries print must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    steps = {step.__name__: step for step in (upload, publish, api, run)}
    for line in sys.stdin:
        step, arguments = json.loads(line)
        try:
            answer = {"result": steps[step](**arguments)}
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
