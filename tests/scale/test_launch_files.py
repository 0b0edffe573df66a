"""The files of scripts/launch, as the programs that read them read them."""

import dataclasses
import os
import re
import socket
import subprocess
import sys

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env

from hf_primaldual import PrimalDualViTConfig, PrimalDualViTForImageClassification
from hf_primaldual.training.time_series import SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments

from .jobs import ROOT

LAUNCH = ROOT / "scripts" / "launch"
TYPES = {
    "one_gpu.yaml": ("NO", 1),
    "one_node_8_gpus.yaml": ("MULTI_GPU", 8),
    "fsdp2.yaml": ("FSDP", 8),
    "deepspeed_zero2.yaml": ("DEEPSPEED", 8),
}
SHELL = ["two_cpu_processes.sh", "several_nodes_torchrun.sh", "several_nodes.slurm"]


@pytest.mark.parametrize("name", TYPES)
def test_accelerate_reads_a_configuration_as_it_is_meant(name):
    config = load_config_from_file(str(LAUNCH / name))
    assert (config.distributed_type.value, config.num_processes, config.use_cpu) == (*TYPES[name], False)
    if config.deepspeed_config:
        assert (ROOT / config.deepspeed_config["deepspeed_config_file"]).is_file()


def test_fsdp2_shards_the_layers_and_gathers_them_for_a_checkpoint(monkeypatch):
    arguments = launch_command_parser().parse_args(["--config_file", str(LAUNCH / "fsdp2.yaml"), "script.py"])
    arguments, _, _ = _validate_launch_command(arguments)
    for variable, value in prepare_multi_gpu_env(arguments).items():
        if variable.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.setenv(variable, value)
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.state_dict_type.name) == (2, "FULL_STATE_DICT")
    shape = {"num_hidden_layers": 2, "hidden_size": 12, "image_size": 32, "intermediate_size": 12}
    model = PrimalDualViTForImageClassification(PrimalDualViTConfig(**shape))
    plugin.set_auto_wrap_policy(model)
    policy = plugin.auto_wrap_policy
    wrapped = [name for name, module in model.named_modules() if policy(module, False, nonwrapped_numel=0)]
    assert wrapped == ["model.layers.0", "model.layers.1"]


def test_files_say_whether_they_were_measured_and_the_page_names_files_and_flags_that_exist():
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert {path.name for path in LAUNCH.iterdir()} == {*TYPES, *SHELL, "deepspeed_zero2.json"}
    for name in (*TYPES, *SHELL):
        assert f"`{name}`" in page
        head = "".join((LAUNCH / name).read_text(encoding="utf-8").partition("# ")[1:])[:200]
        assert ("Unmeasured" in head) == (name != "two_cpu_processes.sh")
    for name in SHELL:
        subprocess.run(["bash", "-n", LAUNCH / name], check=True)
    settings = (SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments)
    known = {field.name for arguments in settings for field in dataclasses.fields(arguments)}
    assert set(re.findall(r"--([a-z]\w*)", page)) <= known | {"config_file", "cpu", "num_processes", "global_batch"}


RANK = """
import torch.distributed as dist

dist.init_process_group("gloo")
dist.barrier()
print(f"process {dist.get_rank()} of {dist.get_world_size()}", flush=True)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_several_nodes_meet(tmp_path):
    (tmp_path / "rank.py").write_text(RANK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODES": "2", "GPUS_PER_NODE": "1"}
    nodes = [
        subprocess.Popen(
            ["bash", LAUNCH / "several_nodes_torchrun.sh", tmp_path / "rank.py"],
            env=os.environ | common | {"NODE_RANK": str(rank), "PYTHON": sys.executable},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [node.communicate(timeout=240)[0] for node in nodes]
    assert sorted(outputs) == ["process 0 of 2\n", "process 1 of 2\n"]
