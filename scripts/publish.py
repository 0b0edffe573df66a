"""
Checks a checkpoint folder and publishes it on the Hub in one commit. The token is read from HF_TOKEN, or is that of
`hf auth login`.

    python scripts/publish.py outputs/demo/primal-dual-japanesevowels-bn-sh me/japanese-vowels --dry_run
    python scripts/publish.py FOLDER me/name --private --revision experiment --tag v1
    python scripts/publish.py FOLDER me/name --pull_request
"""

import argparse

from hf_primaldual.hub.publish import publish


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", help="Checkpoint folder, as the run_*.py scripts leave it.")
    parser.add_argument("repo_id", help="owner/name")
    parser.add_argument("--revision", help="Branch, created if absent. Default: main.")
    parser.add_argument("--tag", help="Name for the commit.")
    parser.add_argument("--message", help="Of the commit. Default: the model's name.")
    for flag, text in (
        ("private", "Make a new repository private."),
        ("pull_request", "Open a pull request instead of committing."),
        ("dry_run", "Check, list what would happen, and send nothing."),
        ("delete_others", "Remove files of the repository that the folder lacks."),
        ("trust_remote_code", "Run the folder's own code, where it is not this package's."),
    ):
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    args = vars(parser.parse_args(argv))
    print(publish(args.pop("folder"), args.pop("repo_id"), **args))


if __name__ == "__main__":
    main()
