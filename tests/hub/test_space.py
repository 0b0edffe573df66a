"""The folder of a Space: what is refused, and what goes to the test Hub."""

import shutil
from pathlib import Path

import pytest

from hf_primaldual.commands.publish import main
from hf_primaldual.hub.space import publish_space
from tests.hub.loopback.client import Client
from tests.hub.loopback.repository import File, Repository
from tests.hub.loopback.server import LoopbackHub

ROOT = Path(__file__).parents[2]
NAME = "tester/two-attentions"


def files(folder: Path, inside: str = "") -> dict[str, bytes]:
    """The files of a folder and of those in it, but for what Python compiled."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {f"{inside}{path.relative_to(folder).as_posix()}": path.read_bytes() for path in found}


@pytest.fixture
def space(tmp_path):
    """A small Space with the metadata of this repository's."""
    folder = tmp_path / "space"
    (folder / "models").mkdir(parents=True)
    for name in ("README.md", "requirements.txt"):
        shutil.copy(ROOT / "spaces" / name, folder)
    (folder / "app.py").write_text("print('a page')\n")
    (folder / "models" / "trained.json").write_text("{}\n")
    return folder


@pytest.mark.processes
def test_a_space_goes_up_whole_with_the_package_and_keeps_what_is_not_its_own(space, tmp_path):
    expected = {**files(space), **files(ROOT / "src" / "hf_primaldual", "hf_primaldual/")}
    with LoopbackHub(tmp_path / "hub") as hub, Client(hub.endpoint, tmp_path / "home") as client:
        would = client(publish_space, space, NAME, dry_run=True)
        assert dict(would.files) == {name: len(content) for name, content in expected.items()}
        assert NAME not in hub.repositories
        hub.repositories[NAME] = Repository()
        stale = {"hf_primaldual/gone.py": File(b"of an older version"), "notes.md": File(b"somebody's")}
        hub.repositories[NAME].commit("refs/heads/main", stale)
        done = client(publish_space, space, NAME, tag="v1")
        assert (done.removed, done.kept) == (("hf_primaldual/gone.py",), ("notes.md",))
        assert hub.content(NAME, "v1") == {**expected, "notes.md": b"somebody's"}
        assert f"/spaces/{NAME}/commit/" in done.url
        assert "space" in str(client(publish_space, space, "tester/new", private=True).url)
        assert hub.repositories["tester/new"].private
        assert hub.count("/api/models/") == 0
        assert hub.unknown == []


def test_the_space_of_this_repository_is_fit_to_be_published(capsys):
    main([str(ROOT / "spaces"), NAME, "--space", "--dry_run"])
    said = capsys.readouterr().out
    for name in ("app.py", "models/series/bn-sh/model.safetensors", "hf_primaldual/__init__.py"):
        assert f"  {name}\n" in said
    assert ".pyc" not in said
    assert f"nothing was sent to {NAME}" in said


def stated(folder: Path, old: str, new: str) -> None:
    path = folder / "README.md"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


SPOILED = {
    "no card": (lambda f: (f / "README.md").unlink(), r"lacks README\.md"),
    "no requirements": (lambda f: (f / "requirements.txt").unlink(), r"lacks requirements\.txt"),
    "no licence": (lambda f: stated(f, "license: apache-2.0\n", ""), "must state 'license'"),
    "another sdk": (lambda f: stated(f, "sdk: gradio", "sdk: static"), "'sdk' must be gradio, got 'static'"),
    "another page": (lambda f: stated(f, "app_file: app.py", "app_file: page.py"), r"lacks page\.py"),
    "pickle": (lambda f: (f / "models" / "a.pt").write_bytes(b""), r"models/a\.pt is no file of a Space"),
    "link": (lambda f: (f / "a.py").symlink_to(f / "app.py"), r"a\.py is no file of a Space"),
    "place": (lambda f: (f / "app.py").write_text("# /home/me/x"), r"app\.py holds an absolute path"),
    "package": (lambda f: (f / "hf_primaldual").mkdir(), "would hide the installed package"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_unfit_to_be_published_is_named(name, space):
    spoil, message = SPOILED[name]
    spoil(space)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        publish_space(space, NAME, dry_run=True)


@pytest.mark.parametrize("flags", [["--license", "mit"], ["--trust_remote_code"]])
def test_flags_of_a_checkpoint_are_refused_for_a_space(flags, space):
    with pytest.raises(ValueError, match=f"`{flags[0][2:]}` is of a checkpoint"):
        main([str(space), NAME, "--space", "--dry_run", *flags])
