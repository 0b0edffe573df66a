"""What the first users met in our own models and in conversion; rows are those of the list of faults."""

import json
import shutil
import sys
from functools import partial

import pytest
import torch
from accelerate import cpu_offload
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hf_primaldual import (
    PRESETS,
    PrimalDualAttention,
    PrimalDualConfig,
    PrimalDualTextConfig,
    PrimalDualTextForDocumentMatching,
    PrimalDualTextForSequenceClassification,
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesForSequenceClassification,
    PrimalDualViTConfig,
    PrimalDualViTForImageClassification,
    convert,
)
from hf_primaldual.modeling.extensions_primal_dual import EXTENSIONS
from hf_primaldual.theory import PrimalLayer
from tests.modeling.isolated import run_isolated

SHAPE = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 32}
X = torch.arange(80).view(4, 20) % 47 + 3
SERIES = torch.randn(4, 9, 3, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


FAMILIES = {
    "text": (PrimalDualTextForSequenceClassification, {"vocab_size": 50}),
    "ts": (PrimalDualTimeSeriesForSequenceClassification, {"num_channels": 3, "max_position_embeddings": 30}),
    "vit": (PrimalDualViTForImageClassification, {"image_size": 16, "patch_size": 4}),
}


def make_model(family, attention="bn+sh", **fields):
    torch.manual_seed(0)
    model_class, own = FAMILIES[family]
    return model_class(model_class.config_class(attention=attention, **SHAPE, **own, **fields)).eval()


text, ts, vit = (partial(make_model, family) for family in FAMILIES)


def bert():
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(vocab_size=50, max_position_embeddings=32, **SHAPE)).eval()


def rows(count=16, labels=2):
    return [{"input_ids": X[i % 4].roll(i), "labels": torch.tensor(i % labels)} for i in range(count)]


def trainer(model, folder, data=None, **settings):
    set_seed(0)
    callbacks = settings.pop("callbacks", None)
    settings = {"per_device_train_batch_size": 4, "learning_rate": 1e-2, "disable_tqdm": True, **settings}
    args = TrainingArguments(str(folder), report_to="none", use_cpu=True, dataloader_pin_memory=False, **settings)
    data = rows() if data is None else data
    return Trainer(model, args, train_dataset=data, eval_dataset=data, callbacks=callbacks)


@torch.no_grad()
def logits(model, inputs=X):
    return model.eval()(inputs).logits


KINDS = {"text": (text, X), "series": (ts, SERIES), "vit": (vit, IMAGES)}
kinds = pytest.mark.parametrize(("make", "inputs"), KINDS.values(), ids=KINDS)


def betas_of(model):
    return torch.cat([weight for name, weight in model.named_parameters() if name.endswith("beta")])


def test_row_02_the_best_model_is_evaluated_where_it_stood(tmp_path):
    model = convert(bert(), "bn+sh", head_scales=[1, 2, 4, 8])
    each_epoch = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    run = trainer(model, tmp_path, num_train_epochs=4, **each_epoch)
    run.train()
    assert run.evaluate()["eval_loss"] == pytest.approx(run.state.best_metric, abs=1e-6)
    best = type(model).from_pretrained(run.state.best_model_checkpoint)
    assert torch.equal(betas_of(best), betas_of(model))
    assert betas_of(best).ne(0).all()
    torch.testing.assert_close(logits(best), logits(model))


def adapted(model, **settings):
    return get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False, **settings))


def again(peft, model, folder):
    """The adapter as it is loaded, on its base as that was before."""
    peft.save_pretrained(folder / "adapter")
    return PeftModel.from_pretrained(type(model).from_pretrained(folder / "base"), folder / "adapter")


@pytest.mark.parametrize("kept", [None, ["transforms.0", "classifier"]], ids=str)
def test_row_03_an_adapter_carries_what_it_has_learned(tmp_path, kept):
    model = convert(bert(), "bn+sh", head_scales=[1, 2, 4, 8])
    expected = logits(model)
    model.save_pretrained(tmp_path / "base")
    peft = adapted(model, modules_to_save=kept)
    trainer(peft, tmp_path / "run", max_steps=4).train()
    assert betas_of(peft).ne(0).sum() == (0 if kept is None else 8)
    assert torch.equal(logits(again(peft, model, tmp_path)), logits(peft))
    with peft.disable_adapter():
        torch.testing.assert_close(logits(peft), expected)


def test_row_03_an_adapter_without_lora_is_merged():
    model = convert(bert(), "bn+sh")
    config = IA3Config(target_modules=["k_proj", "fc2"], feedforward_modules=["fc2"], modules_to_save=["transforms.0"])
    peft = get_peft_model(model, config)
    for name, weight in peft.named_parameters():
        if weight.requires_grad and "transforms" in name:
            nn.init.constant_(weight, 0.5)
    expected = logits(peft)
    merged = peft.merge_and_unload()
    assert betas_of(merged).eq(0.5).all()
    torch.testing.assert_close(logits(merged), expected)


@pytest.mark.parametrize(("saved", "norm_position"), [(None, "pre"), (["norm1", "norm2"], "post")])
def test_row_04_an_adapter_on_batch_norms_is_the_model_that_was_trained(tmp_path, saved, norm_position):
    model = ts(norm_type="batch", norm_position=norm_position)
    series = torch.randn(8, 20, 3) * 3 + 1
    model.save_pretrained(tmp_path / "base")
    peft = adapted(model, modules_to_save=saved)
    data = [{"past_values": values, "labels": torch.tensor(i % 2)} for i, values in enumerate(series)]
    trainer(peft, tmp_path / "run", data, max_steps=4).train()
    torch.testing.assert_close(logits(again(peft, model, tmp_path), series), logits(peft, series))


def test_row_05_what_is_named_by_an_attention_has_it(tmp_path):
    model = convert(bert(), "bn+sh")
    assert [layer.self_attn.groups.amounts for layer in model.model.layers] == [[1, 2]] * 2
    model.save_pretrained(tmp_path)
    config, weights = json.loads((tmp_path / "config.json").read_text()), load_file(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**config, "annealed": False}))
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(model))
    assert "annealed" not in loaded.config.to_dict()
    # As early versions saved what was softmax still, or on its way.
    weights["model.layers.0.self_attn.annealing.millionths"] = torch.tensor(5)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ValueError, match=r"`model\.layers\.0\.self_attn\.annealing\.millionths` among its weights: .* Conv"
    ):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "annealed": True}))
    with pytest.raises(ValueError, match=r"`annealed: true`: .* Convert the original again"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


@pytest.fixture
def folder(tmp_path):
    bert().save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_row_06_what_finds_a_model_is_no_field_of_it(folder, tmp_path):
    model = convert(folder, "bn", token="hf_abc", revision="main", cache_dir=str(tmp_path))
    model.save_pretrained(tmp_path / "saved")
    written = (tmp_path / "saved" / "config.json").read_text()
    assert not any(word in written for word in ("hf_abc", "cache_dir", "revision", 'token"'))
    with pytest.raises(ValueError, match="`revision` is for a name"):
        convert(bert(), "bn", revision="main")


MISSPELT = {
    "convert": (lambda folder: convert(folder, head_scale=[1, 1, 2, 2]), "`head_scale`; did you mean `head_scales`"),
    "configuration": (lambda _: PrimalDualTextConfig(atention="bn"), "`atention`; did you mean `attention`"),
    "series": (lambda _: PrimalDualTimeSeriesConfig(num_channel=3), "`num_channel`; did you mean `num_channels`"),
    "layer": (lambda _: PrimalDualConfig(max_length=3), "`max_length`"),
    "forward": (lambda _: text()(X, attn_mask=X > 0), "`attn_mask`; did you mean `attention_mask`"),
    "encoder": (lambda _: text().model(X, attention_maks=X > 0), "`attention_maks`; did you mean `attention_mask`"),
    "series forward": (lambda _: ts()(torch.randn(2, 9, 3), position_ids=X), "`position_ids`"),
    "images forward": (lambda _: vit()(torch.randn(1, 3, 16, 16), interpolate=True), "`interpolate`"),
    "attention": (
        lambda _: PrimalDualAttention(PrimalDualConfig())(torch.randn(1, 5, 64), is_causal=True),
        "`is_causal`",
    ),
    "packed": (lambda _: text()(X, cu_seq_lens_q=torch.tensor([0, 20])), "`cu_seq_lens_q`: packed sequences"),
}


@pytest.mark.parametrize(("call", "words"), MISSPELT.values(), ids=MISSPELT)
def test_row_06_and_07_a_keyword_that_is_not_known_is_an_error(folder, call, words):
    with pytest.raises(TypeError, match=words):
        call(folder)


def test_row_06_a_keyword_or_entry_that_is_nearly_a_field_is_an_error_at_loading(tmp_path):
    text().save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="`head_scale`; did you mean `head_scales`"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path, head_scale=[1, 1, 1, 1])
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"attention": "bn+sh"', '"attention": "bn+sh", "bn_bta": 0.5'))
    with pytest.raises(TypeError, match="`bn_bta`; did you mean `bn_beta`"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)
    # What other programs write stays.
    config.write_text(config.read_text().replace("bn_bta", "of_another_program"))
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.of_another_program == 0.5


@kinds
def test_row_07_a_configuration_may_ask_for_tuples(make, inputs):
    assert torch.equal(make(return_dict=False)(inputs)[0], make()(inputs).logits)


def test_row_07_positions_are_honoured_and_packed_texts_refused():
    model, places = text(), torch.arange(20).unsqueeze(0)
    assert torch.equal(model(X, position_ids=places).logits, model(X).logits)
    weight = model.model.embeddings.position_embeddings.weight
    with torch.no_grad():
        weight.copy_(weight.roll(7, 0))
    torch.testing.assert_close(model(X, position_ids=places + 7).logits, text()(X).logits)
    with pytest.raises(ValueError, match="row 0 falls at token 12"):
        model(X, position_ids=torch.cat((torch.arange(12), torch.arange(8))).expand(4, -1))


PROBLEMS = {
    "regression": (1, lambda i: torch.tensor(float(i % 5))),
    "several numbers": (3, lambda i: torch.tensor([i % 5, 1.0, -i])),
    "multi_label_classification": (3, lambda i: torch.tensor([i % 2, 1.0, 0.0])),
    "single_label_classification": (3, lambda i: torch.tensor(i % 3)),
}
PROBLEM_TYPES = {"several numbers": "regression"}


@pytest.mark.parametrize(
    ("make", "problem"),
    [(text, "regression"), (ts, "several numbers"), (vit, "multi_label_classification")]
    + [(make, "single_label_classification") for make in (text, ts, vit)],
)
def test_row_10_accumulated_steps_are_those_of_one_batch(tmp_path, make, problem):
    count, label = PROBLEMS[problem]
    name = {text: "input_ids", ts: "past_values", vit: "pixel_values"}[make]
    inputs = next(inputs for maker, inputs in KINDS.values() if maker is make)
    data = [{name: inputs[i % 4].roll(i // 4), "labels": label(i)} for i in range(16)]
    weights = []
    # The last of the batches of two is no whole step.
    for batch, steps in ((8, 1), (2, 4)):
        fields = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        fields |= {"norm_type": "layer"} if make is ts else {}
        model = make(num_labels=count, problem_type=PROBLEM_TYPES.get(problem, problem), **fields)
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps, "max_grad_norm": 0}
        run = trainer(model, tmp_path, data, max_steps=2, optim="sgd", learning_rate=0.1, save_strategy="no", **sizes)
        run.train()
        weights.append(model.classifier.weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_row_10_losses_are_those_of_transformers(problem):
    count, label = PROBLEMS[problem]
    labels = torch.stack([label(i) for i in range(4)])
    theirs = bert()
    theirs.num_labels = theirs.config.num_labels = count
    theirs.config.problem_type = PROBLEM_TYPES.get(problem, problem)
    theirs.classifier = nn.Linear(24, count)
    ours = convert(theirs, "softmax")
    torch.testing.assert_close(ours(X, labels=labels).loss, theirs(X, labels=labels).loss)


def left_padded(values, length):
    """Rows of `values` padded in front, after lengths of their own, and their mask."""
    lengths = torch.tensor([length, length - 1, length // 2, 3])
    mask = torch.arange(length) >= (length - lengths).unsqueeze(1)
    padded = torch.zeros_like(values)
    for row, count in enumerate(lengths):
        padded[row, length - count :] = values[row, :count]
    return padded, mask.long(), lengths


LEFT = [(text, {"prepend_cls": True, "pooling": "cls"}, name) for name in PRESETS]
LEFT += [(make, fields, "bn+sh") for make, fields in ((text, {"pooling": "cls"}), (ts, {}), (ts, {"pooling": "mean"}))]
LEFT += [
    (text, fields, "bn+sh") for fields in ({}, {"head_points": 3}, {"sampling": "stride"}, {"sampling": "random"})
]


@pytest.mark.parametrize(("make", "fields", "attention"), LEFT)
def test_row_12_a_row_padded_on_the_left_is_the_row_alone(make, fields, attention):
    patterns = [["local", "strided"], ["fixed"]] if "sparse" in attention else [None]
    # In double precision: a row of three tokens has heads of two points, whose small deviation rounding is divided by.
    values = X.clone() if make is text else torch.randn(4, 20, 3, dtype=torch.float64)
    padded, mask, lengths = left_padded(values, 20)
    for pattern in patterns:
        sparse = {} if pattern is None else {"sparse_pattern": pattern, "sparse_window": 6, "sparse_stride": 4}
        model = make(attention, **sparse, **fields).double()
        with torch.no_grad():
            for parameter in model.parameters():
                # Filters start where they do nothing.
                parameter.add_(0.1 * torch.randn_like(parameter))
            batch = model(padded, attention_mask=mask, output_hidden_states=True)
            for row, count in enumerate(lengths):
                alone = model(values[row : row + 1, :count], output_hidden_states=True)
                torch.testing.assert_close(batch.logits[row : row + 1], alone.logits, rtol=1e-8, atol=1e-8)
                for ours, theirs in zip(batch.hidden_states, alone.hidden_states, strict=True):
                    torch.testing.assert_close(ours[row, -count:], theirs[0, -count:], rtol=1e-8, atol=1e-8)


def test_row_12_pairs_of_documents_may_be_padded_on_the_left():
    model = PrimalDualTextForDocumentMatching(text(pooling="cls").config).eval()
    padding, ones = torch.zeros(2, 7, dtype=torch.long), torch.ones(2, 13, dtype=torch.long)
    alone = model(X[:2, :13], pair_input_ids=X[2:]).logits
    left, mask = (torch.cat((padding, each), 1) for each in (X[:2, :13], ones))
    padded = model(left, attention_mask=mask, pair_input_ids=X[2:]).logits
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)


@kinds
def test_row_14_one_label_is_a_regression_of_whole_numbers_too(make, inputs):
    model = make(num_labels=1)
    whole, real = (model(inputs, labels=torch.tensor([10, 2, 3, -7]).to(dtype)).loss for dtype in (torch.long, None))
    assert torch.equal(whole, real)
    assert model.config.problem_type == "regression"


BAD_LABELS = {
    "class": ({"num_labels": 3}, torch.tensor([0, 1, 3, 0]), "0 to 2 .*, got 3"),
    "float": ({"num_labels": 3, "problem_type": "single_label_classification"}, torch.rand(4), "whole numbers"),
    "shape": ({"num_labels": 3, "problem_type": "multi_label_classification"}, torch.rand(4), r"shape \(4, 3\)"),
    "share": ({"num_labels": 3}, torch.full((4, 3), 2.0), "0 to 1 .*, got 2"),
    "missing": ({"num_labels": 1}, torch.tensor([0.0, torch.nan, 1.0, 1.0]), "finite .*, got nan"),
    "broadcast": ({"num_labels": 2, "problem_type": "regression"}, torch.rand(4), r"shape \(4, 2\)"),
}


@pytest.mark.parametrize(("fields", "labels", "words"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_row_14_labels_are_looked_at_by_the_type_of_the_problem(fields, labels, words):
    with pytest.raises(ValueError, match=f"`labels` must .*{words}"):
        text(**fields)(X, labels=labels)


@kinds
def test_row_15_the_activation_that_is_there_is_called(make, inputs):
    model, seen = make(), []
    for layer in model.model.layers:
        layer.mlp.activation_fn = nn.ReLU()
        layer.mlp.activation_fn.register_forward_hook(lambda *_: seen.append(1))
    with_gradients = model(inputs).logits
    torch.testing.assert_close(logits(model, inputs), with_gradients)
    assert len(seen) == 4


@kinds
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantiz", "ignore:.*TypedStorage")
def test_row_16_a_quantized_model_runs(make, inputs):
    for attention in ("bn+sh", "linear-bn+sh", "sparse-bn+sh"):
        model = make(attention)
        quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
        torch.testing.assert_close(logits(quantized, inputs), logits(model, inputs), rtol=0.2, atol=0.2)


OFFLOADED = {
    "text": (lambda: text("bn+sh", bn_beta_learnable=True, type_vocab_size=2, prepend_cls=True), X),
    "conv": (lambda: text("bn+sh", sampling="conv"), X),
    "series": (lambda: ts("conv1d"), SERIES),
    "vit": (lambda: vit("conv2d+bn", layer_scale_init_value=0.1, distillation_token=True), IMAGES),
    "converted": (lambda: convert(bert(), "bn+sh"), X),
}


@pytest.mark.parametrize(("make", "inputs"), OFFLOADED.values(), ids=OFFLOADED)
def test_row_17_an_offloaded_model_runs(make, inputs):
    model = make().eval()
    expected = logits(model, inputs)
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert all(parameter.is_meta for parameter in model.parameters())
    torch.testing.assert_close(logits(model, inputs), expected)


def test_row_19_trainer_gathers_the_logits_of_a_distilled_vit_alone(tmp_path):
    model = vit(distillation_token=True, distillation_head=True)
    data = [{"pixel_values": image, "labels": 1} for image in torch.randn(6, 3, 16, 16)]
    output = trainer(model, tmp_path, data).predict(data)
    assert output.predictions.shape == (6, 2)


def test_row_24_sizes_may_be_given_in_any_order(tmp_path):
    for fields in ({"image_size": 8, "patch_size": 4}, {"patch_size": 4, "image_size": 8}):
        PrimalDualViTConfig().save_pretrained(tmp_path)
        for config in (PrimalDualViTConfig(**fields), PrimalDualViTConfig.from_pretrained(tmp_path, **fields)):
            assert config.grid_size == [2, 2]
    with pytest.raises(ValueError, match=r"`image_size` .* at least one patch"):
        PrimalDualViTForImageClassification(PrimalDualViTConfig.from_pretrained(tmp_path, image_size=8))


def test_row_32_a_folder_that_names_no_architecture(folder):
    config = folder / "config.json"
    for written, named in (("null", "None"), ('["OfSomebody"]', "'OfSomebody'")):
        config.write_text(config.read_text().replace('[\n    "BertForSequenceClassification"\n  ]', written))
        with pytest.raises(ValueError, match=f"must name a class of transformers in `architectures`, got {named}"):
            convert(folder)
        bert().save_pretrained(folder)


OWN_CLASS = """
from own_helper import FACTOR
from hf_primaldual import PrimalDualTextForSequenceClassification


class OwnText(PrimalDualTextForSequenceClassification):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * FACTOR
        return output
"""
OWN_TRANSFORM = """
from torch import nn
from own_helper import FACTOR
from own.own_third import ONE
from .own_other import OFFSET


class Halved(nn.Module):
    def __init__(self, config):
        super().__init__()

    def forward(self, query, key, query_mask, key_mask, heads):
        return query * FACTOR + OFFSET * ONE, key
"""


OWN_FILES = {
    "__init__": "",
    "own_class": OWN_CLASS,
    "own_transform": OWN_TRANSFORM,
    "own_helper": "FACTOR = 0.5\n",
    "own_other": "OFFSET = 1.0\n",
    "own_third": "from .own_other import OFFSET as ONE\n",
}


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    package = tmp_path / "own"
    package.mkdir()
    for name, code in OWN_FILES.items():
        (package / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    EXTENSIONS.pop("own_transform.Halved", None)
    for name in [name for name in sys.modules if name.partition(".")[0].startswith("own")]:
        del sys.modules[name]


@pytest.mark.processes
def test_row_33_a_subclass_leaves_every_file_that_its_checkpoint_names(own_files, tmp_path):
    from own.own_class import OwnText

    model = OwnText(text().config).eval()
    model.save_pretrained(tmp_path / "saved")
    for reference in model.config.auto_map.values():
        assert (tmp_path / "saved" / f"{reference.partition('.')[0]}.py").exists(), reference
    torch.testing.assert_close(logits(OwnText.from_pretrained(tmp_path / "saved")), logits(model))
    with pytest.warns(UserWarning, match="saved as OwnText, which is loaded as PrimalDualTextForSequence"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")


def transformed():
    """A model with the transform of the user's own."""
    from own.own_transform import Halved

    torch.manual_seed(0)
    fields = PrimalLayer(transforms=("bn", Halved)).fields()
    return PrimalDualTextForSequenceClassification(PrimalDualTextConfig(vocab_size=50, **SHAPE, **fields)).eval()


LOADED_ALONE = """
import sys, torch
from transformers import AutoModelForSequenceClassification as Auto
inputs, expected = torch.load(sys.argv[1] + "/expected.pt")
model = Auto.from_pretrained(sys.argv[1] + "/saved", trust_remote_code=True).eval()
assert torch.equal(model(inputs).logits, expected)
"""


@pytest.mark.unmutated
def test_row_33_a_transform_takes_the_files_beside_it_along(own_files, tmp_path):
    model = transformed()
    model.save_pretrained(tmp_path / "saved")
    torch.save((X, logits(model)), tmp_path / "expected.pt")
    shutil.rmtree(own_files)
    run_isolated(LOADED_ALONE, tmp_path, tmp_path)


@pytest.mark.parametrize("statement", ["from .deeper.own_fourth import A", "import own_helper"])
def test_row_33_what_cannot_lie_beside_it_is_refused(own_files, tmp_path, statement):
    (own_files / "own_transform.py").write_text(f"{statement}\n{OWN_TRANSFORM}")
    (own_files / "deeper").mkdir()
    (own_files / "deeper" / "__init__.py").write_text("")
    (own_files / "deeper" / "own_fourth.py").write_text("A = 1\n")
    with pytest.raises(ValueError, match=r"own_transform.py says `.*`, which can't be found in a checkpoint"):
        transformed().save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_row_05_a_configuration_that_no_longer_says_what_the_model_is(tmp_path):
    model = text("bn+sh")
    model.config.head_scales = [1, 1, 1, 1]
    with pytest.raises(ValueError, match=r"`config.head_scales` was changed to .* after the model was built"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    model.config.head_scales = None
    model.save_pretrained(tmp_path / "saved")
