"""
What a GPU is asked, in stages that write their results at once into a folder. A stage that was stopped goes on with
the same folder.

    python -m tests.gpu --stage right fast --output results/gpu
    python -m tests.gpu --stage fast learns many --device cpu --output outputs/dry-run  # small, to try the stages
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# Tests whose tensors may lie anywhere: the formulas, and models of transformers that run them.
RIGHT = (
    "tests/test_gpu.py",
    "tests/modeling/test_parity.py",
    "tests/modeling/test_intervals.py",
    "tests/integration/test_families.py",
    "tests/integration/test_decoders.py",
)
SHAPES = {
    "cuda": "--dtype bfloat16 --width 512 --heads 8 --fill 65536 --tokens 1024 4096 16384",
    "cpu": "--width 32 --heads 2 --fill 512 --tokens 256",
}
LONGEST = {"cuda": "65536", "cpu": "512"}
PICTURES = {"cuda": "--dtype bfloat16 --batch 64 --image_size 224 384 512", "cpu": "--image_size 32"}
ATTENTIONS = "--attentions bn sh bn+sh sh:256 linear linear-bn+sh"
# FlexAttention has no backward on a CPU.
SPARSE = "--attentions sparse:local sparse sparse:local@flex_attention sparse@flex_attention --name sparse"
SPARSE_MODE = {"cuda": "", "cpu": "--inference"}
LISTOPS = "scripts/run_sequence_classification.py scripts/configs/lra_listops.yaml"
# A tenth of Long Range Arena's epochs or less: minutes a run.
LEARNS = {
    "cuda": "--bf16 true --max_steps 5000 --eval_steps 1000 --save_steps 1000 --seeds 0 1 2",
    "cpu": "--use_cpu true --max_steps 2 --eval_steps 1 --save_steps 1 --seeds 0 --per_device_train_batch_size 2 "
    "--train_size 8 --validation_size 4 --test_size 4 --efficiency_tokens 16",
}
MANY = (
    "scripts/run_sequence_classification.py scripts/configs/listops_lite.yaml --attention bn+sh --seeds 0 "
    "--train_size 1600 --validation_size 100 --test_size 100 --num_train_epochs 1 --efficiency_tokens 16 "
    "--eval_strategy steps --save_strategy steps --eval_steps 10 --save_steps 10 --resume_from_checkpoint true"
)
# A process group of one by torch's launcher, and the same model sharded by Accelerate's FSDP2.
LAUNCHERS = {
    "ddp": "torch.distributed.run --standalone --nproc_per_node 1",
    "fsdp2": "accelerate.commands.launch --config_file scripts/launch/fsdp2.yaml --num_processes 1",
}


def _python(command: str, *more: str, seconds: float | None = None, **environment: str) -> bool:
    """Whether a command failed; what is stopped after `seconds` has not."""
    try:
        argv = [sys.executable, *command.split(), *more]
        return subprocess.run(argv, env=os.environ | environment, timeout=seconds, check=False).returncode != 0
    except subprocess.TimeoutExpired:
        print(f"stopped after {seconds:.0f} seconds: {command}")
        return False


def right(args: argparse.Namespace) -> bool:
    command = f"-m pytest -q --numprocesses {args.processes} --dist worksteal --junitxml={args.output}/right.xml"
    return _python(command, "-m", "not slow and not processes and not hub_peers", *RIGHT, TEST_DEVICE=args.device)


def fast(args: argparse.Namespace) -> bool:
    layers, pictures = f"attention.py {SHAPES[args.device]}", f"vit.py {PICTURES[args.device]}"
    longest = f"{layers} {LONGEST[args.device]} {ATTENTIONS}"
    programs = (
        longest,
        f"{longest} --inference",
        f"{layers} {ATTENTIONS} --compiled",
        f"{layers} {SPARSE} {SPARSE_MODE[args.device]}",
        f"{layers} --attentions bn sh bn+sh linear linear-bn+sh --causal",
        *(f"{pictures} --size {size} {mode}" for size in ("tiny", "small") for mode in ("", "--inference")),
    )
    common = f"--device {args.device} --rounds {30 if args.device == 'cuda' else 1} --output {args.output}"
    # One that fails, or is killed, keeps none of the others from being timed.
    failed = [_python(f"scripts/benchmarks/{program} {common}") for program in programs]
    return any(failed)


def learns(args: argparse.Namespace) -> bool:
    """ListOps of Long Range Arena at its real size: as many runs as the time holds."""
    flags = f"--attention bn sh bn+sh --eval_strategy steps --save_strategy steps {LEARNS[args.device]}"
    folders = f"--output_dir {args.output}/listops --results_dir {args.output} --resume_from_checkpoint true"
    return _python(f"{LISTOPS} {flags} {folders}", seconds=60 * args.minutes)


def many(args: argparse.Namespace) -> bool:
    """What one GPU can show of several: a group of one process, killed at its first checkpoint, which goes on."""
    # Accelerate shards no model on a CPU.
    launchers = LAUNCHERS if args.device == "cuda" else {"ddp": LAUNCHERS["ddp"]}
    device = "--bf16 true" if args.device == "cuda" else "--use_cpu true"
    failed = []
    for name, launcher in launchers.items():
        folder = args.output / name
        run = f"-m {launcher} {MANY} {device} --output_dir {folder} --results_dir {folder}-results"
        begun = subprocess.Popen([sys.executable, *run.split()], start_new_session=True)
        while begun.poll() is None and not any(folder.glob("runs/*/checkpoint-*/trainer_state.json")):
            time.sleep(0.1)
        if begun.poll() is None:
            os.killpg(begun.pid, signal.SIGKILL)
        begun.wait()
        failed.append(_python(run) or not any(Path(f"{folder}-results").glob("*.json")))
    return any(failed)


STAGES = {"right": right, "fast": fast, "learns": learns, "many": many}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--device", choices=SHAPES, default="cuda", help="On a CPU all is small but what is tested.")
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu"), help="Folder of the results.")
    parser.add_argument("--processes", type=int, default=8, help="That test at once.")
    parser.add_argument("--minutes", type=float, default=3, help="After which learning stops for this time.")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    failed = [stage for stage in args.stage if STAGES[stage](args)]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
