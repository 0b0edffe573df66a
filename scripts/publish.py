"""
Checks a checkpoint folder and publishes it on the Hub in one commit. The token is read from HF_TOKEN, or is that of
`hf auth login`.

    python scripts/publish.py outputs/demo/primal-dual-japanesevowels-bn-sh me/japanese-vowels --dry_run
    python scripts/publish.py FOLDER me/name --private --revision experiment --tag v1
    python scripts/publish.py FOLDER me/name --pull_request
"""

import argparse
import sys

from hf_primaldual.hub.publish import Upload, publish


def build_parser() -> argparse.ArgumentParser:
    # Not transformers' parser of dataclasses: it takes longer to import than the files take to travel.
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", help="Checkpoint folder, as the run_*.py scripts leave it.")
    parser.add_argument("repo_id", help="owner/name")
    parser.add_argument("--private", action="store_true", help="Make a new repository private.")
    parser.add_argument("--revision", help="Branch, created if absent. Default: main.")
    parser.add_argument("--pull_request", action="store_true", help="Open a pull request instead of committing.")
    parser.add_argument("--tag", help="Name for the commit.")
    parser.add_argument("--message", help="Of the commit. Default: the model's name.")
    parser.add_argument("--dry_run", action="store_true", help="Check, list what would happen, and send nothing.")
    parser.add_argument(
        "--delete_others", action="store_true", help="Remove files of the repository that the folder lacks."
    )
    parser.add_argument(
        "--trust_remote_code", action="store_true", help="Run the folder's own code, where it is not this package's."
    )
    return parser


def main(argv: list[str] | None = None) -> Upload:
    args = vars(build_parser().parse_args(argv))
    upload = publish(args.pop("folder"), args.pop("repo_id"), **args)
    print(upload)
    return upload


if __name__ == "__main__":
    main(sys.argv[1:])
