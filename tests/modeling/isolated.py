"""Scripts in processes that know nothing of this repository."""

import os
import sys
from pathlib import Path

from tests.processes import begin, forking

ROOT = Path(__file__).parents[2]

# The package may be installed for development in the environment that runs the tests: it is hidden.
PREAMBLE = """
import sys

class _Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_primaldual":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, _Hide())
try:
    import hf_primaldual
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("the package can be imported")
"""


def run_isolated(script: str, folder: Path, *arguments, hide: bool = True) -> str:
    """
    Runs a script as `python -I` does, in an empty working directory of its own with caches of its own.

    Returns:
        What it printed.
    """
    environment = {**os.environ, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    (folder / "empty").mkdir()
    script, arguments = (PREAMBLE if hide else "") + script, [str(each) for each in arguments]
    process = forking().Process(target=_work, args=(script, folder, arguments, environment))
    process.start()
    process.join()
    assert process.exitcode == 0, (folder / "stderr").read_text()[-4000:]
    return (folder / "stdout").read_text()


def _work(script: str, folder: Path, arguments: list[str], environment: dict[str, str]) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        with open(folder / name, "w") as file:
            os.dup2(file.fileno(), number)
    begin(environment)
    os.chdir(folder / "empty")
    # Nor does it know what code of checkpoints the process of the tests has run.
    others = [path for path in sys.path if (Path(path) / "transformers_modules").exists()]
    sys.path[:] = [path for path in sys.path if path not in ("", str(ROOT), *others)]
    sys.argv[:] = ["-c", *arguments]
    exec(compile(script, "script", "exec"), {"__name__": "__main__"})
