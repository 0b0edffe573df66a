"""
Checks a checkpoint folder, or with --space that of a Gradio page, and publishes it on the Hub in one commit. The token
is read from HF_TOKEN, or is that of `hf auth login`.

    hf-primaldual publish outputs/demo/primal-dual-japanesevowels-bn-sh me/japanese-vowels --dry_run
    hf-primaldual publish FOLDER me/name --private --revision experiment --tag v1
    hf-primaldual publish FOLDER me/name --pull_request
    hf-primaldual publish spaces me/two-attentions --space --dry_run
"""

from argparse import RawDescriptionHelpFormatter

from ..flags import Parser
from ..hub.publish import publish
from ..hub.space import publish_space


def main(argv: list[str] | None = None, prog: str | None = None) -> None:
    parser = Parser(prog=prog, description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="Checkpoint folder, as a training leaves it; or that of a Space.")
    parser.add_argument("repo_id", help="owner/name")
    parser.add_argument("--license", help="Of the weights, such as apache-2.0. Default: that of the training.")
    parser.add_argument("--revision", help="Branch, created if absent. Default: main.")
    parser.add_argument("--tag", help="Name for the commit.")
    parser.add_argument("--message", help="Of the commit. Default: the model's name.")
    for flag, text in (
        ("private", "Make a new repository private."),
        ("pull_request", "Open a pull request instead of committing."),
        ("dry_run", "Check, list what would happen, and send nothing."),
        ("delete_others", "Remove files of the repository that the folder lacks."),
        ("space", "The folder is that of a Space, a page of Gradio; this package goes with it."),
        ("trust_remote_code", "Run the folder's own code, where it is not this package's."),
    ):
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    args = vars(parser.parse_args(argv))
    folder, repo_id, is_space = args.pop("folder"), args.pop("repo_id"), args.pop("space")
    if is_space:
        # Its card states the licence, and its code is not run.
        for name in ("license", "trust_remote_code"):
            if args.pop(name):
                raise ValueError(f"`{name}` is of a checkpoint; leave it out with --space.")
    print((publish_space if is_space else publish)(folder, repo_id, **args))
