"""What lies beside the package: make's targets, the forms for issues, the changelog."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

import hf_primaldual

ROOT = Path(__file__).parents[1]


def test_make_help_tells_of_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)[1].split()
    told = subprocess.run(["make", "-C", ROOT], check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = [line for line in told.splitlines() if not line.startswith("make")]
    assert sorted(line for line in lines if not line.startswith(" ")) == sorted(targets)


@pytest.mark.parametrize("form", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/[!c]*.yml")), ids=lambda path: path.stem)
def test_a_form_for_issues_has_what_it_needs_to_be_shown(form):
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert content["name"]
    assert content["description"]
    ids = [field["id"] for field in content["body"]]
    assert len(set(ids)) == len(ids)
    for field in content["body"]:
        assert field["type"] in ("input", "textarea", "dropdown")
        assert field["attributes"]["label"]
        assert ("options" in field["attributes"]) == (field["type"] == "dropdown")


def test_the_changelog_begins_with_what_is_unreleased_or_with_this_version():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[0] in ("Unreleased", hf_primaldual.__version__)
    assert hf_primaldual.__version__ in headings
