"""
Converts a ViT, DeiT, DINOv2, BERT or RoBERTa with all its weights and saves a self-contained checkpoint, with its
tokenizer or image processor where it has one.

    hf-primaldual convert google-bert/bert-base-uncased outputs/bert-bn-sh --attention bn+sh
    hf-primaldual convert FOLDER outputs/cheaper --attention sh --budget 0.7 --calibration texts.txt
"""

import argparse
from pathlib import Path

from transformers import AutoImageProcessor, AutoTokenizer
from transformers.utils import cached_file

from .. import PRESETS, convert
from ..flags import Parser
from ..training.runs import claim_output_folder
from .examples import draw_examples

CALIBRATION_EXAMPLES = 64


def main(argv: list[str] | None = None, prog: str | None = None) -> Path:
    parser = Parser(prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Folder of a checkpoint, or its name on the Hub.")
    parser.add_argument("output", type=Path, help="A new or empty folder.")
    parser.add_argument("--attention", default="bn+sh", choices=sorted(PRESETS), help="The preset.")
    parser.add_argument("--head_scales", type=int, nargs="+", help="Factor of each head; default: doubling.")
    parser.add_argument("--num_labels", type=int, help="Adds a new classifier with this many classes to an encoder.")
    parser.add_argument(
        "--budget", type=float, help="Or what attention may cost, as a share of softmax's: by --calibration."
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE_OR_FOLDER",
        help="A file of texts, an example a line, or a folder of images; 64 of them are measured on.",
    )
    parser.add_argument("--overwrite", action="store_true", help="Write into a folder that holds something.")
    args = parser.parse_args(argv)

    fields = {name: getattr(args, name) for name in ("head_scales", "num_labels") if getattr(args, name) is not None}
    calibration = None if args.calibration is None else draw_examples(args.calibration, CALIBRATION_EXAMPLES)
    model = convert(args.model, args.attention, budget=args.budget, calibration=calibration, **fields)
    if args.budget is not None:
        print("factors of heads, a line a layer:", *model.config.head_scales, sep="\n")
    output = Path(args.output)
    # Nothing of what is there is removed.
    if not (args.overwrite and output.is_dir()):
        claim_output_folder(output, overwrite=False)
    model.save_pretrained(output)
    for file, processor in (
        ("tokenizer_config.json", AutoTokenizer),
        ("preprocessor_config.json", AutoImageProcessor),
    ):
        if cached_file(args.model, file, _raise_exceptions_for_missing_entries=False) is not None:
            processor.from_pretrained(args.model, trust_remote_code=False).save_pretrained(output)
            print(f"saved with it: what {processor.__name__} loads")
    print(f"checkpoint: {output}")
    return output
