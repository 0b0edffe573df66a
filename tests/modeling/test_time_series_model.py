import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from hf_primaldual import (
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
    PrimalDualTimeSeriesModel,
)
from hf_primaldual.data import load_uea
from tests.modeling.cases import HEADS, PRESET_CASES, all_settings, choices_of, uses
from tests.modeling.series import (
    CHANNELS,
    LABELS,
    LONGEST,
    series_batch,
    small_config,
    small_model,
    unchanged,
    with_more_padding,
)

ENCODERS = [
    pytest.param({"norm_type": norm, "norm_position": position, "pooling": pooling}, id=f"{norm}-{position}-{pooling}")
    for norm in ("batch", "layer")
    for position in ("post", "pre")
    for pooling in ("flatten", "mean")
]


def gradients(model, batch):
    """The loss of a batch and the gradient of every parameter."""
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_same_gradients(actual, expected):
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-5, atol=1e-6)
    largest = max(gradient.abs().max().item() for gradient in expected[1].values())
    for name, gradient in expected[1].items():
        torch.testing.assert_close(actual[1][name], gradient, rtol=1e-4, atol=1e-5 * largest, msg=name)


@pytest.mark.parametrize(("preset", "fields"), all_settings())
def test_a_padded_batch_of_series_equals_its_series_alone(preset, fields):
    model, batch = small_model(attention=preset, bn_eps=0.1, **fields), series_batch()
    together = model(**batch)
    for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        alone = model(batch["past_values"][row : row + 1, :length])
        torch.testing.assert_close(together.logits[row : row + 1], alone.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_more_padding_changes_neither_loss_nor_gradients(encoder, training):
    model, batch = small_model(bn_eps=0.1, **encoder).train(training), series_batch()
    expected = gradients(model, batch)
    assert all(gradient.isfinite().all() for gradient in expected[1].values())
    assert_same_gradients(gradients(model, with_more_padding(batch, 4)), expected)


@pytest.mark.parametrize(("preset", "fields"), all_settings())
def test_more_padding_changes_no_gradient_with_batch_norm_in_training(preset, fields):
    model, batch = small_model(attention=preset, bn_eps=0.1, **fields).train(), series_batch()
    expected = gradients(model, batch)
    assert_same_gradients(gradients(model, with_more_padding(batch, 4)), expected)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_parameter_gets_a_gradient(encoder):
    # Learned betas too; series without padding, and of every position.
    model = small_model(bn_beta_learnable=True, **encoder).train()
    _, found = gradients(model, series_batch((LONGEST,) * 3, LONGEST))
    assert all(gradient.abs().max() > 0 for gradient in found.values())


def test_what_lies_in_padding_is_not_looked_at():
    model, batch = small_model(), series_batch()
    expected = model(**batch).logits
    padded = batch["attention_mask"].eq(0)
    for value in (0.0, float("nan"), float("inf")):
        batch["past_values"][padded] = value
        assert torch.equal(model(**batch).logits, expected)


def test_loss_is_the_cross_entropy():
    model, batch = small_model(), series_batch()
    outputs = model(**batch)
    assert outputs.logits.shape == (4, LABELS)
    torch.testing.assert_close(outputs.loss, nn.functional.cross_entropy(outputs.logits, batch["labels"]))
    assert model(batch["past_values"], batch["attention_mask"]).loss is None


def test_labels_of_minus_100_do_not_count():
    model, batch = small_model(), series_batch()
    batch["labels"][1:3] = -100
    outputs = model(**batch)
    expected = nn.functional.cross_entropy(outputs.logits[[0, 3]], batch["labels"][[0, 3]])
    torch.testing.assert_close(outputs.loss, expected)


def test_regression_and_multi_label_losses():
    batch = series_batch()
    for problem, labels in (("regression", torch.randn(4, LABELS)), ("multi_label_classification", torch.ones(4, 4))):
        assert small_model(problem_type=problem)(**{**batch, "labels": labels}).loss.isfinite()


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("preset", PRESET_CASES)
def test_output_attentions(preset, implementation):
    model, batch = small_model(implementation, attention=preset), series_batch()
    outputs = model(**batch, output_attentions=True)
    assert len(outputs.attentions) == model.config.num_hidden_layers
    torch.testing.assert_close(outputs.logits, model(**batch).logits, rtol=1e-4, atol=1e-5)
    for maps in outputs.attentions:
        if uses("downsampled", preset):
            assert [weights.shape for weights in maps] == [(4, 20, 20)] * 2 + [(4, 20, 10)] * 2
        else:
            assert maps.shape == (4, HEADS, 20, 20)
            assert maps[2, :, :1, 1:].eq(0).all()


def test_output_hidden_states():
    model, batch = small_model(), series_batch()
    outputs = model.model(batch["past_values"], batch["attention_mask"], output_hidden_states=True)
    assert [states.shape for states in outputs.hidden_states] == [(4, 20, 16)] * 3
    assert torch.equal(outputs.hidden_states[-1], outputs.last_hidden_state)
    assert model(**batch).hidden_states is None
    assert len(model(**batch, output_hidden_states=True).hidden_states) == 3


def test_a_tuple_is_returned_on_request():
    model, batch = small_model(), series_batch()
    loss, logits = model(**batch, return_dict=False)
    assert torch.equal(logits, model(**batch).logits)
    assert torch.equal(loss, model(**batch).loss)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    model = small_model()
    model.save_pretrained(folder)
    PrimalDualTimeSeriesFeatureExtractor(CHANNELS, mean=[0.0] * CHANNELS, std=[1.0] * CHANNELS).save_pretrained(folder)
    return model, folder


def test_auto_classes_load_a_saved_folder_with_equal_logits(saved):
    model, folder = saved
    batch = series_batch()
    assert type(AutoConfig.from_pretrained(folder)) is PrimalDualTimeSeriesConfig
    assert type(AutoFeatureExtractor.from_pretrained(folder)) is PrimalDualTimeSeriesFeatureExtractor
    encoder = AutoModel.from_pretrained(folder)
    assert type(encoder) is PrimalDualTimeSeriesModel
    inputs = batch["past_values"], batch["attention_mask"]
    assert torch.equal(encoder(*inputs).last_hidden_state, model.model(*inputs).last_hidden_state)
    classifier = AutoModelForSequenceClassification.from_pretrained(folder)
    assert type(classifier) is PrimalDualTimeSeriesForSequenceClassification
    assert not classifier.training
    assert torch.equal(classifier(**batch).logits, model(**batch).logits)


def test_auto_classes_build_from_a_config():
    config = small_config(attention="bn")
    assert type(AutoModel.from_config(config)) is PrimalDualTimeSeriesModel
    model = AutoModelForSequenceClassification.from_config(config)
    assert type(model) is PrimalDualTimeSeriesForSequenceClassification
    assert model.config.attention == "bn"


def test_another_attention_is_chosen_when_loading(saved):
    model, folder = saved
    batch = series_batch()
    loaded = AutoModelForSequenceClassification.from_pretrained(folder, attention="softmax")
    expected = small_model(attention="softmax")
    expected.load_state_dict(model.state_dict())
    assert torch.equal(loaded(**batch).logits, expected(**batch).logits)
    assert not torch.allclose(loaded(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("preset", PRESET_CASES)
def test_a_softmax_models_weights_load_into_every_preset(preset):
    softmax = small_model(attention="softmax").state_dict()
    missing, unexpected = small_model(attention=preset).load_state_dict(softmax, strict=False)
    assert unexpected == []
    convolutions = [i for i, name in enumerate(choices_of(preset)[1]) if name.startswith("conv")]
    assert missing == [
        f"model.layers.{layer}.self_attn.transforms.{i}.weight" for layer in range(2) for i in convolutions
    ]


@pytest.mark.parametrize(
    ("preset", "fields"), all_settings("default", "conv", "random", "all-of-them", "conv1d-first")
)
def test_every_preset_is_saved_and_loaded_to_the_bit(tmp_path, preset, fields):
    model, batch = small_model(attention=preset, bn_beta_learnable=True, **fields), series_batch()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize(
    ("plain", "learned"),
    [
        ({"attention": "softmax"}, {"attention": "conv1d"}),
        ({"attention": "softmax"}, {"attention": "conv2d"}),
        ({"attention": "bn"}, {"attention": "conv2d+bn"}),
        ({"attention": "bn+sh"}, {"attention": "bn+sh", "sampling": "conv"}),
    ],
    ids=["conv1d", "conv2d", "conv2d+bn", "sampling"],
)
def test_filters_learned_on_top_of_a_checkpoint_start_as_what_changes_nothing(saved, plain, learned):
    _, folder = saved
    batch = series_batch()
    expected = AutoModelForSequenceClassification.from_pretrained(folder, **plain)
    actual = AutoModelForSequenceClassification.from_pretrained(folder, **learned)
    torch.testing.assert_close(actual(**batch).logits, expected(**batch).logits, rtol=1e-4, atol=1e-5)


def test_betas_learned_on_top_of_a_checkpoint_start_from_the_constant(saved):
    _, folder = saved
    fields = {"bn_beta_learnable": True, "bn_beta": 0.4}
    loaded = AutoModelForSequenceClassification.from_pretrained(folder, **fields)
    betas = [parameter for name, parameter in loaded.named_parameters() if name.endswith("beta")]
    assert len(betas) == 2
    assert all(beta.tolist() == pytest.approx([0.4] * HEADS) for beta in betas)
    batch = series_batch()
    expected = AutoModelForSequenceClassification.from_pretrained(folder, bn_beta=0.4)
    torch.testing.assert_close(loaded(**batch).logits, expected(**batch).logits)


def test_betas_are_saved(tmp_path):
    model = small_model(bn_beta_learnable=True)
    for layer in model.model.layers:
        nn.init.normal_(layer.self_attn.transforms[0].beta)
    model.save_pretrained(tmp_path)
    batch = series_batch()
    loaded = PrimalDualTimeSeriesForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_loaded_in_bfloat16(tmp_path, norm):
    model, batch = small_model(norm_type=norm, bn_eps=0.1), series_batch()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    # The counters do not matter: with a momentum nothing reads them.
    state = {name: t for name, t in loaded.state_dict().items() if not name.endswith("num_batches_tracked")}
    kept = {name for name, tensor in state.items() if tensor.dtype == torch.float32}
    assert kept == ({name for name in state if ".norm" in name} if norm == "batch" else set())
    outputs = loaded(**batch)
    assert outputs.logits.dtype == torch.bfloat16
    # Some twenty roundings to eight bits, one after the other.
    assert (outputs.logits - model(**batch).logits).abs().max() <= 0.1 * model(**batch).logits.abs().max()
    loss, found = gradients(loaded.train(), batch)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_the_back_end_is_changed_in_place():
    model, batch = small_model(), series_batch()
    expected = model(**batch).logits
    model.set_attn_implementation("eager")
    assert {layer.self_attn.config._attn_implementation for layer in model.model.layers} == {"eager"}
    torch.testing.assert_close(model(**batch).logits, expected, rtol=1e-4, atol=1e-5)


def test_trainer_on_real_series(tmp_path):
    series = load_uea("BasicMotions")["train"].shuffle(seed=0).select(range(8)).with_format("numpy")
    extractor = PrimalDualTimeSeriesFeatureExtractor(6).fit(series["past_values"])

    def collate(examples):
        # Two lengths, so that there is padding.
        values = [example["past_values"][: 12 + 8 * (i % 2)] for i, example in enumerate(examples)]
        return {**extractor(values, return_tensors="pt"), "labels": torch.tensor([e["labels"] for e in examples])}

    model = small_model(num_channels=6, hidden_dropout_prob=0.1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    args = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, save_strategy="no", disable_tqdm=True
    )
    trainer = Trainer(model, args, data_collator=collate, train_dataset=series, eval_dataset=series)
    assert trainer.train().training_loss > 0
    assert unchanged(model, before) == []
    assert trainer.predict(series).predictions.shape == (8, LABELS)
