"""A converted model that its original teaches, on Trainer: the loss, what is trained, and what is refused."""

import copy

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import BertModel, BertTokenizer, DataCollatorWithPadding, TrainingArguments

from hf_primaldual import DistillationTrainer, apply, convert
from hf_primaldual.integration.embeddings import EMBEDDINGS
from tests.integration.families import FAMILIES

FAMILY = {family.name: family for family in FAMILIES}
LENGTHS = (20, 13, 17, 9, 20, 16, 11, 20)
SCALES = [[1, 2, 4, 1], [2, 2, 1, 4]]


def texts(labels: bool = False) -> Dataset:
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(5, 50, (length,), generator=generator).tolist() for length in LENGTHS]
    columns = {"input_ids": ids, "attention_mask": [[1] * length for length in LENGTHS]}
    return Dataset.from_dict(columns | ({"label": [0, 1] * 4} if labels else {}))


def images() -> Dataset:
    values = torch.randn(8, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    return Dataset.from_dict({"pixel_values": values.numpy()}).with_format("torch")


def collator():
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    return DataCollatorWithPadding(BertTokenizer(vocab={word: place for place, word in enumerate(words)}))


def taught_by(teacher, dropout: float = 0.0):
    torch.manual_seed(0)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return convert(teacher, "sh", head_scales=SCALES, **rates)


def build(folder, student, teacher, data=None, **options):
    settings = {name: options.pop(name) for name in list(options) if hasattr(TrainingArguments, name)}
    settings = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 3e-3, **settings}
    args = TrainingArguments(str(folder), use_cpu=True, disable_tqdm=True, logging_steps=1, **settings)
    data = texts() if data is None else data
    is_text = "input_ids" in data.column_names
    return DistillationTrainer(
        student,
        args,
        collator() if is_text else None,
        data,
        data,
        teacher=teacher,
        **options,
    )


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_the_loss_is_its_formula_row_by_row(tmp_path, embedding):
    teacher = FAMILY["BERT"].build()
    student = taught_by(teacher)
    trainer = build(tmp_path, student, teacher, embedding=embedding, layers_weight=0.7, embedding_weight=1.9)
    expected, cosines = [], []
    for row in texts():
        # Alone, without padding.
        batch = {"input_ids": torch.tensor([row["input_ids"]])}
        with torch.no_grad():
            ours, theirs = (model(**batch, output_hidden_states=True) for model in (student, teacher))
        errors = [
            (a - b).square().sum() / b.square().sum()
            for a, b in zip(ours.hidden_states, theirs.hidden_states, strict=True)
        ]
        assert len(errors) == 3
        a, b = (
            {"mean": states.mean(dim=1), "first": states[:, 0], "all": states}[embedding].flatten()
            for states in (ours.last_hidden_state, theirs.last_hidden_state)
        )
        cosines.append(a @ b / (a.norm() * b.norm()))
        expected.append(0.7 * sum(errors) / 3 + 1.9 * (1 - cosines[-1]))
    assert min(expected) > 0.01
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(float(sum(expected)) / 8, rel=1e-4)
    assert metrics["eval_cosine"] == pytest.approx(float(sum(cosines)) / 8, rel=1e-4)
    torch.testing.assert_close(torch.tensor(trainer.predict(texts()).predictions), torch.stack(cosines))


def applied(teacher):
    return apply(copy.deepcopy(teacher), "sh", head_scales=SCALES)


# Of a student with dropout a few steps show little.
BERT = FAMILY["BERT"]._replace(options={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})


@pytest.mark.parametrize(
    ("family", "student"),
    [(BERT, taught_by), (FAMILY["ViT"], taught_by), (BERT, applied), (FAMILY["DINOv2"], applied)],
    ids=lambda value: getattr(value, "name", None),
)
def test_training_brings_a_model_nearer_to_its_teacher(tmp_path, family, student):
    teacher = family.build()
    before, data = weights_of(teacher), texts() if family is BERT else images()
    trainer = build(
        tmp_path, student(teacher), teacher, data, max_steps=20, eval_strategy="steps", eval_steps=10, save_steps=10,
        metric_for_best_model="cosine", load_best_model_at_end=True,
    )  # fmt: skip
    start = trainer.evaluate()
    trainer.train()
    end = trainer.evaluate()
    assert end["eval_loss"] < 0.8 * start["eval_loss"]
    assert end["eval_cosine"] > start["eval_cosine"]
    assert trainer.state.best_metric == pytest.approx(end["eval_cosine"])
    assert not teacher.training
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())


@pytest.mark.parametrize("name", ["BERT", "ViT"])
def test_a_model_that_is_its_teacher_has_no_loss(tmp_path, name):
    teacher = FAMILY[name].build()
    model = convert(teacher, "sh", head_scales=[1] * 4)
    metrics = build(tmp_path, model, teacher, texts() if name == "BERT" else images()).evaluate()
    assert metrics["eval_loss"] == pytest.approx(0, abs=1e-5)
    assert metrics["eval_cosine"] == pytest.approx(1)


def test_labels_are_not_looked_at_and_accumulated_batches_weigh_as_one(tmp_path):
    teacher = FAMILY["BERT"].build()
    trained = []
    for data, batch in ((texts(), 8), (texts(labels=True), 4)):
        model = taught_by(teacher)
        trainer = build(
            tmp_path, model, teacher, data, max_steps=2, optim="sgd", learning_rate=0.1,
            per_device_train_batch_size=batch, gradient_accumulation_steps=8 // batch,
        )  # fmt: skip
        trainer.train()
        trained.append(weights_of(model))
    for name, weight in trained[0].items():
        torch.testing.assert_close(trained[1][name], weight, rtol=1e-4, atol=1e-6)


def test_a_resumed_training_ends_where_one_without_a_stop_ends(tmp_path):
    teacher, ends = FAMILY["BERT"].build(), []
    # With dropout, so that the random numbers count.
    for resumed in (False, True):
        model = taught_by(teacher, dropout=0.2)
        trainer = build(tmp_path, model, teacher, max_steps=6, save_steps=3)
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3") if resumed else None)
        ends.append(weights_of(model))
    assert all(torch.equal(ends[0][name], weight) for name, weight in ends[1].items())


def test_only_the_attention_is_trained_where_that_is_asked(tmp_path):
    teacher = FAMILY["BERT"].build()
    for model in (taught_by(teacher), apply(copy.deepcopy(teacher), "sh", head_scales=SCALES)):
        before = weights_of(model)
        build(tmp_path, model, teacher, trainable="attention").train()
        moved = {name for name, weight in weights_of(model).items() if not torch.equal(weight, before[name])}
        # The bias of the keys shifts all logits of a query alike.
        assert {name for name in before if "att" in name} - moved <= {name for name in before if "k" in name}
        assert all("att" in name for name in moved)


def test_an_adapter_learns_is_saved_and_goes_on(tmp_path):
    teacher, ends = FAMILY["BERT"].build(), []
    for resumed in (False, True):
        base = taught_by(teacher)
        before = weights_of(base)
        model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        trainer = build(tmp_path, model, teacher, save_steps=2)
        start = trainer.evaluate()["eval_loss"]
        trainer.train(resume_from_checkpoint=resumed)
        assert trainer.evaluate()["eval_loss"] < start
        ends.append({name: weight for name, weight in weights_of(model).items() if "lora" in name})
        assert all(torch.equal(base.state_dict().get(name, weight), weight) for name, weight in before.items())
    assert all(torch.equal(ends[0][name], weight) for name, weight in ends[1].items())
    assert (tmp_path / "checkpoint-4" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"layers": 3}, "must have as many layers, got 2 and 3"),
        ({"width": 48}, r"hidden states of one shape, .* got \(8, 20, 32\) and \(8, 20, 48\) in place 0"),
        ({"data": texts().select([])}, "`train_dataset` must hold some examples"),
        ({"shared": True}, "`teacher` has weights of `model` in it"),
        ({"embedding": "last"}, "`embedding` must be one of mean, first, all"),
        ({"layers_weight": 0, "embedding_weight": 0}, "must be at least 0 and not both 0"),
        ({"trainable": "heads"}, "`trainable` must be one of all, attention"),
    ],
)
def test_what_it_cannot_be_asked(tmp_path, changes, error):
    teacher = FAMILY["BERT"].build()
    student = apply(teacher, "sh") if changes.pop("shared", False) else taught_by(teacher)
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = changes.pop("layers", config.num_hidden_layers)
    if "width" in changes:
        config.hidden_size = changes.pop("width")
    other = BertModel(config) if config.to_dict() != teacher.config.to_dict() else teacher
    with pytest.raises(ValueError, match=error):
        build(tmp_path, student, other, **changes).evaluate()
