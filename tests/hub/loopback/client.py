"""
A client of the Hub in a process of its own, with nothing patched: only HF_ENDPOINT, HF_TOKEN and HF_HOME are set.
Without an endpoint it is the real Hub's.
"""

import contextlib
import io
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.processes import begin, forking

ROOT = Path(__file__).parents[3]


def environment(endpoint: str | None, home: Path, token: str | None = "hf_test_write", xet: bool = True) -> dict:
    """Of a process that talks to the Hub."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    kept |= {"HF_HOME": str(home), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    kept |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": str(int(not xet))}
    given = {"HF_ENDPOINT": endpoint, "HF_TOKEN": token}
    return kept | {name: value for name, value in given.items() if value is not None}


class ClientError(Exception):
    """What went wrong in the client's process, by its class and message."""


class Client:
    """The process, seen from the test; `client(upload, folder=..., repo_id=...)` calls a function there."""

    def __init__(self, *where, **options):
        given = environment(*where, **options)
        self._pool = ProcessPoolExecutor(1, forking(), initializer=_begin, initargs=(given,))
        self.pid = self._pool.submit(os.getpid).result()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error):
        self._pool.shutdown()

    def __call__(self, step: Callable, *arguments, **options):
        return self._pool.submit(_call, step, arguments, options).result()


def _begin(environment: dict) -> None:
    begin(environment)

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _call(step: Callable, arguments: tuple, options: dict):
    try:
        return step(*arguments, **options)
    except Exception as error:
        # The Hub's own errors hold a request, which cannot travel.
        raise ClientError(f"{type(error).__name__}: {error}") from None


def upload(folder: Path, repo_id: str, revision: str = "main", patterns: tuple = (), token=None, **options):
    from huggingface_hub import HfApi

    from hf_primaldual.hub.publish import upload

    return upload(HfApi(token=token), folder, repo_id, revision, list(patterns), "a test", **options)


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
