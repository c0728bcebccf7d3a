import numpy as np
import pytest
from datasets import Dataset
from datasets.utils import are_progress_bars_disabled

from hbo import build_mixture, stratify
from hbo.data.tokens import tokenize
from hbo.errors import ConfigError, DataError
from hbo.scoring.difficulty import assign_levels, quantiles, score, score_table


@pytest.fixture
def data(cache):
    rows = [{"prompt": f"what is {i}?", "completion": f"it is {i * 7 % 11}" * (i % 3 + 1)} for i in range(13)]
    return build_mixture({"math": Dataset.from_list(rows[:9]), "chat": Dataset.from_list(rows[9:])})


@pytest.mark.parametrize("metric", ["ifd", "perplexity", "loss"])
def test_levels_follow_the_score_inside_each_dataset(metric, data, llama, tokenizer):
    found = stratify(data, model=llama, tokenizer=tokenizer, score=metric, levels=3, precision="fp32")
    assert found.column_names == [*data.column_names, "hbo_level"]
    assert found["prompt"][:] == data["prompt"][:]
    scores = score(tokenize(data, tokenizer), llama, tokenizer)
    assert scores.cached
    value_N = {"ifd": scores.ifd_N, "perplexity": scores.perplexity_N, "loss": scores.loss_N}[metric]
    for name, sizes in (("math", [3, 3, 3]), ("chat", [2, 1, 1])):
        mine = np.array(found["hbo_dataset"][:]) == name
        levels = np.array(found["hbo_level"][:])[mine]
        assert np.bincount(levels).tolist() == sizes
        assert levels[np.argsort(value_N[mine])].tolist() == sorted(levels)


def test_a_second_call_asks_no_model(data, llama, tokenizer, forwards):
    first = stratify(data, model=llama, tokenizer=tokenizer, score="loss", reference=True)
    assert forwards
    forwards.clear()
    assert stratify(data, model=llama, tokenizer=tokenizer, score="loss")["hbo_level"][:] == first["hbo_level"][:]
    stratify(data, model=llama, tokenizer=tokenizer, ifd="loss_ratio")
    assert forwards == []


def test_the_reference_is_the_loss_under_the_scorer(data, llama, tokenizer):
    found = stratify(data, model=llama, tokenizer=tokenizer, reference=True, levels=1, precision="fp32")
    expected = score(tokenize(data, tokenizer), llama, tokenizer).loss_N
    np.testing.assert_array_equal(found["hbo_reference"][:], expected)
    assert set(found["hbo_level"]) == {0}


def test_a_model_is_loaded_by_name(data, llama, tokenizer, tmp_path):
    llama.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    found = stratify(data, model=str(tmp_path / "model"), levels=2)
    assert found["hbo_level"][:] == stratify(data, model=llama, tokenizer=tokenizer, levels=2)["hbo_level"][:]


def test_plain_text_is_grouped_by_perplexity_with_a_warning(llama, tokenizer, cache):
    texts = Dataset.from_dict({"text": ["aaaa", "some other text", "q"]})
    data = build_mixture({"web": texts})
    with pytest.warns(UserWarning, match=r"'web': IFD can't score 3 of 3 rows \(3 with no instruction: rows 0, 1, 2\)"):
        found = stratify(data, model=llama, tokenizer=tokenizer, levels=3)
    assert found.column_names == ["text", "hbo_dataset", "hbo_row", "hbo_level"]
    by_perplexity = stratify(data, model=llama, tokenizer=tokenizer, levels=3, score="perplexity")
    assert found["hbo_level"][:] == by_perplexity["hbo_level"][:]


def test_a_selection_is_stratified_quietly_and_old_columns_are_replaced(data, llama, tokenizer, capfd):
    part = data.select([12, 0, 5, 3, 10, 11])
    first = stratify(part, model=llama, tokenizer=tokenizer, levels=3, reference=True)
    again = stratify(first, model=llama, tokenizer=tokenizer, levels=1)
    assert again.column_names == [*data.column_names, "hbo_level"]
    assert first["hbo_row"][:] == again["hbo_row"][:] == part["hbo_row"][:]
    assert capfd.readouterr() == ("", "")
    assert not are_progress_bars_disabled()


def test_the_cache_folder_is_the_given_one(data, llama, tokenizer, tmp_path):
    stratify(data, model=llama, tokenizer=tokenizer, cache_dir=tmp_path / "here")
    assert len(list((tmp_path / "here" / "scores").iterdir())) == 1


def test_one_level_needs_no_model(data):
    assert set(stratify(data, levels=1)["hbo_level"]) == {0}


def test_the_steps_fit_together(data, llama, tokenizer):
    rows = tokenize(data, tokenizer)
    scores = score(rows, llama, tokenizer)
    table = score_table(rows, scores)
    assert [(q.dataset, q.n, q.scored) for q in quantiles(table)] == [("math", 9, 9), ("chat", 4, 4)]
    levels = assign_levels(rows["hbo_dataset"][:], scores, "ifd", 4, rows["hbo_row"][:])
    assert levels.tolist() == stratify(data, model=llama, tokenizer=tokenizer, precision="fp32")["hbo_level"][:]


def test_each_precision_has_scores_of_its_own(data, llama, tokenizer, forwards):
    def reference(precision):
        return np.array(
            stratify(data, model=llama, tokenizer=tokenizer, reference=True, precision=precision)["hbo_reference"][:]
        )

    exact, coarse = reference("fp32"), reference("bf16")
    assert (exact != coarse).any()
    np.testing.assert_allclose(coarse, exact, rtol=3e-2)
    forwards.clear()
    np.testing.assert_array_equal(reference("fp32"), exact)
    np.testing.assert_array_equal(reference("bf16"), coarse)
    assert forwards == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"score": "perplexit"},
            r"score is 'perplexit'; choose one of ifd, perplexity, loss \(did you mean 'perplexity'\?\)",
        ),
        ({"precision": "fp16"}, "precision is 'fp16'; choose one of auto, bf16, fp32"),
        ({"ifd": "ratio"}, "ifd is 'ratio'; choose one of perplexity_ratio, loss_ratio"),
        ({"levels": 0}, "levels is 0; it must be a whole number from 1 to 1024"),
        ({"levels": 1025}, "levels is 1025"),
        ({"levels": 2.0}, "levels is 2.0"),
        ({"levels": True}, "levels is True"),
        ({}, "stratify needs a scorer"),
        ({"levels": 1, "reference": True}, "stratify needs a scorer"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, sentence, data):
    with pytest.raises(ConfigError, match=sentence):
        stratify(data, **options)


def test_a_loaded_model_needs_its_tokenizer(data, llama):
    with pytest.raises(ConfigError, match="its tokenizer must be given too"):
        stratify(data, model=llama)


def test_of_fewer_rows_than_levels_each_is_a_level_and_that_is_said(data, llama, tokenizer):
    with pytest.warns(UserWarning, match="dataset 'chat' has 4 rows to train on, so it gets 4 groups instead of 5"):
        found = stratify(data, model=llama, tokenizer=tokenizer, levels=5)
    level = {name: [] for name in found["hbo_dataset"]}
    for name, here in zip(found["hbo_dataset"], found["hbo_level"], strict=True):
        level[name].append(here)
    assert sorted(level["chat"]) == [0, 1, 2, 3]


def test_a_dict_of_splits_is_refused(cache):
    rows = [{"prompt": "a", "completion": "b"}] * 4
    splits = build_mixture({"a": Dataset.from_list(rows)}, eval_fraction=0.5)
    with pytest.raises(DataError, match=r"pass data\['train'\]"):
        stratify(splits, levels=1)
