"""
Loads a checkpoint as whoever downloads it does, and repeats the recorded logits. `hub.checks` runs this file's text in
`python -I`, where this package cannot be imported: `stranger.py FOLDER RECORD TOLERANCE`.
"""

import gc
import json
import os
import sys
from pathlib import Path


class _Hide:
    """Hides the package where it is installed: what travels with the checkpoint must do."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_primaldual":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def main(folder: str, record: str, tolerance: str) -> None:
    import torch
    import transformers
    from safetensors.torch import load_file

    config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    architecture = next(iter(config.get("architectures") or ()), None)
    autos = [auto for auto, name in config["auto_map"].items() if name.rpartition(".")[2] == architecture]
    if not autos:
        raise ValueError(f"'auto_map' of config.json names no class {architecture}")
    model = getattr(transformers, autos[0]).from_pretrained(folder, trust_remote_code=True)
    if Path(folder, "tokenizer_config.json").is_file():
        transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    processor = Path(folder, "preprocessor_config.json")
    if processor.is_file():
        is_image = "image_processor_type" in json.loads(processor.read_text(encoding="utf-8"))
        auto = transformers.AutoImageProcessor if is_image else transformers.AutoFeatureExtractor
        auto.from_pretrained(folder, trust_remote_code=True)
    tensors = load_file(Path(folder, record))
    expected = tensors.pop("logits")
    with torch.no_grad():
        logits = model(**{name.removeprefix("input."): tensor for name, tensor in tensors.items()}).logits
    if logits.shape != expected.shape or not torch.allclose(logits, expected, atol=float(tolerance), rtol=1e-3):
        raise ValueError(f"the weights do not give the logits recorded in {record}")


if __name__ == "__main__":
    # The process ends before there is anything to collect, and looking for it while torch is imported takes time.
    gc.disable()
    sys.meta_path.insert(0, _Hide())
    main(*sys.argv[1:])
    # Nothing is left to write, and taking all modules apart in order takes a second.
    os._exit(0)
