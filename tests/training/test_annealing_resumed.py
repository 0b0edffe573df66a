"""A conversion that is annealed and averaged goes on from a checkpoint as if it had not stopped."""

from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, ByT5Tokenizer, DataCollatorWithPadding, set_seed

from hf_primaldual import AnnealToTarget, convert
from hf_primaldual.training.arguments import ComparisonArguments
from hf_primaldual.training.trainer import ComparisonTrainer

TEXT = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
EVERY_STEP = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": None}


def trainer(folder):
    set_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2}
    bert = BertForSequenceClassification(BertConfig(vocab_size=384, **shape))
    tokenizer = ByT5Tokenizer()
    # Lines of the README, to be told headings and table rows from prose.
    lines = [line for line in TEXT.splitlines() if line][:24]
    rows = [{"input_ids": tokenizer(line[:60])["input_ids"], "labels": int(line[0] in "#|")} for line in lines]
    once = {"max_steps": 8, "eval_strategy": "no", "load_best_model_at_end": False, "disable_tqdm": True}
    batch = {"per_device_train_batch_size": 4, "learning_rate": 1e-2}
    return ComparisonTrainer(
        convert(bert, attention="bn+sh", head_scales=[1, 1, 2, 2]),
        ComparisonArguments(str(folder), **once, **batch, **EVERY_STEP, ema_decay=0.5),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[AnnealToTarget(steps=6)],
    )


def test_it_ends_with_equal_weights_averages_and_settings(tmp_path):
    whole = trainer(tmp_path / "whole")
    whole.train()
    resumed = trainer(tmp_path / "resumed")
    # The resumed process has other random numbers behind it.
    torch.rand(3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    for ours, theirs in ((resumed.model, whole.model), (resumed.average, whole.average)):
        mine, other = ours.state_dict(), theirs.state_dict()
        assert mine.keys() == other.keys()
        assert [name for name in mine if not torch.equal(mine[name], other[name])] == []
    assert resumed.model.config.to_dict() == whole.model.config.to_dict()
    assert resumed.model.config.head_scales == [1, 1, 2, 2]
