"""
Checks a checkpoint folder and publishes it on the Hub in one commit. The token is read from HF_TOKEN, or is that of
`hf auth login`.

    python scripts/publish.py outputs/demo/primal-dual-japanesevowels-bn-sh me/japanese-vowels --dry_run
    python scripts/publish.py FOLDER me/name --private --revision experiment --tag v1
    python scripts/publish.py FOLDER me/name --pull_request
    python scripts/publish.py FOLDER me/name --collection "Primal-dual attentions"
"""

import sys
from dataclasses import dataclass, field

from transformers import HfArgumentParser

from hf_primaldual.hub.collections import add_to_collection
from hf_primaldual.hub.publish import Upload, publish


@dataclass
class PublishArguments:
    """What goes where."""

    private: bool = field(default=False, metadata={"help": "Make a new repository private."})
    revision: str | None = field(default=None, metadata={"help": "Branch, created if absent. Default: main."})
    pull_request: bool = field(default=False, metadata={"help": "Open a pull request instead of committing."})
    tag: str | None = field(default=None, metadata={"help": "Name for the commit."})
    message: str | None = field(default=None, metadata={"help": "Of the commit. Default: the model's name."})
    collection: str | None = field(
        default=None, metadata={"help": "Title of a collection of the owner, made if absent, that it goes into."}
    )
    dry_run: bool = field(default=False, metadata={"help": "Check, list what would go, and send nothing."})


def main(argv: list[str] | None = None) -> Upload:
    parser = HfArgumentParser(PublishArguments, description=__doc__)
    parser.add_argument("folder", help="Checkpoint folder, as the run_*.py scripts leave it.")
    parser.add_argument("repo_id", help="owner/name")
    namespace = vars(parser.parse_args(argv))
    collection = namespace.pop("collection")
    if collection is not None and (namespace["pull_request"] or namespace["revision"] not in (None, "main")):
        parser.error("--collection tells what `main` holds: leave out --pull_request and --revision")
    upload = publish(namespace.pop("folder"), namespace.pop("repo_id"), **namespace)
    print(upload)
    if collection is not None and not namespace["dry_run"]:
        print(add_to_collection(collection, [upload.repo_id], private=namespace["private"]).url)
    return upload


if __name__ == "__main__":
    main(sys.argv[1:])
