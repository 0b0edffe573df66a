"""
Loads a checkpoint as whoever downloads it does, and repeats the recorded output. `hub.checks` runs this file in
`python -I`, where this package is hidden: `load_check.py FOLDER RECORD`.
"""

import json
import os
import sys
from pathlib import Path


class _Hide:
    """Hides the package where it is installed: what travels with the checkpoint must do."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "hf_primaldual":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def main(folder: str, record: str) -> None:
    import torch
    import transformers
    from safetensors.torch import load_file

    def read(name: str) -> dict:
        path = Path(folder, name)
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    config = read("config.json")
    architecture = next(iter(config.get("architectures") or ()), None)
    autos = [auto for auto, name in config.get("auto_map", {}).items() if name.rpartition(".")[2] == architecture]
    if not autos:
        raise ValueError(f"'auto_map' of config.json names no code to load {architecture} with")
    processors = ["AutoTokenizer"] if read("tokenizer_config.json") else []
    if found := read("preprocessor_config.json"):
        processors.append("AutoImageProcessor" if "image_processor_type" in found else "AutoFeatureExtractor")
    for auto in processors:
        getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True)
    model = getattr(transformers, autos[0]).from_pretrained(folder, trust_remote_code=True)
    tensors = load_file(Path(folder, record))
    (name,) = (name for name in tensors if not name.startswith("input."))
    expected = tensors.pop(name)
    with torch.no_grad():
        found = model(**{name.removeprefix("input."): tensor for name, tensor in tensors.items()})[name]
    # Another processor rounds otherwise than the one that they were recorded on.
    if found.shape != expected.shape or not torch.allclose(found, expected, atol=1e-3, rtol=1e-3):
        raise ValueError(f"the weights do not give the {name} recorded in {record}")


if __name__ == "__main__":
    sys.meta_path.insert(0, _Hide())
    main(*sys.argv[1:])
    # Nothing is left to write, and taking all modules apart in order takes a second.
    os._exit(0)
