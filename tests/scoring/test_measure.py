import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hbo.data.tokens import opening, tokenize
from hbo.errors import ModelError
from hbo.scoring.measure import score
from hbo.scoring.targets import Targets


def loss_of(model, targets_at, ids):
    """Mean loss of the tokens at `targets_at` of `ids`, by the definition and one token at a time."""
    total = 0.0
    for t in targets_at:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids[:t]])).logits[0, -1].double()
        total -= logits.log_softmax(-1)[ids[t]].item()
    return total / len(targets_at)


def by_hand(model, tokenizer, row):
    """loss, loss alone, tokens of a row; every rule spelt out."""
    at = [t for t in range(1, len(row["labels"])) if row["labels"][t] != -100]
    if not at:
        return math.nan, math.nan, 0
    loss = loss_of(model, at, row["input_ids"])
    if not any(turn["content"].strip() for turn in row["prompt"]):
        return loss, math.nan, len(at)
    before = opening(tokenizer)
    response = [row["input_ids"][t] for t in at]
    alone = loss_of(model, range(len(before), len(before) + len(response)), before + response)
    return loss, alone, len(at)


def check(found, expected):
    loss, alone, tokens = map(np.array, zip(*expected, strict=True))
    assert found.tokens_N.tolist() == tokens.tolist()
    np.testing.assert_allclose(found.loss_N, loss, rtol=1e-4)
    np.testing.assert_allclose(found.loss_alone_N, alone, rtol=1e-4)
    np.testing.assert_allclose(found.ifd_N, np.exp(loss) / np.exp(alone), rtol=1e-4)
    np.testing.assert_allclose(found.perplexity_N, np.exp(loss), rtol=1e-4)


def test_scores_are_those_by_hand(mixed, llama, tokenizer, cache):
    expected = [by_hand(llama, tokenizer, row) for row in mixed]
    check(score(mixed, llama, tokenizer), expected)
    assert np.isnan([e[0] for e in expected]).tolist() == [False, False, False, False, True, False]
    assert np.isnan([e[1] for e in expected]).tolist() == [False, False, True, True, True, False]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)), budget=st.integers(1, 400))
def test_scores_do_not_depend_on_the_batches(order, budget, mixed, llama, tokenizer, tmp_path_factory):
    expected = score(mixed, llama, tokenizer, cache_dir=tmp_path_factory.mktemp("a"))
    shuffled = mixed.select(order)
    found = score(shuffled, llama, tokenizer, token_budget=budget, cache_dir=tmp_path_factory.mktemp("b"))
    np.testing.assert_allclose(found.loss_N, expected.loss_N[list(order)], rtol=1e-5)
    np.testing.assert_allclose(found.loss_alone_N, expected.loss_alone_N[list(order)], rtol=1e-5)


def test_both_sides_have_the_same_targets(mixed, llama, tokenizer, cache, monkeypatch):
    seen = {}

    def noted(batch, device):
        targets = of(batch, device)
        labels = targets.label_N.split(targets.counts)
        for ids, mask, label in zip(batch["input_ids"], batch["attention_mask"], labels, strict=True):
            seen.setdefault(tuple(label.tolist()), []).append(ids[mask.bool()].tolist())
        return targets

    of = Targets.of
    monkeypatch.setattr(Targets, "of", noted)
    score(mixed, llama, tokenizer)
    before = opening(tokenizer)
    for row in (mixed[0], mixed[1], mixed[5]):
        response = [label for label in row["labels"] if label != -100]
        assert seen[tuple(response)] == [row["input_ids"], before + response]


def test_a_second_run_scores_nothing(mixed, llama, tokenizer, cache, forwards):
    first = score(mixed, llama, tokenizer)
    assert not first.cached
    assert forwards
    forwards.clear()
    second = score(mixed.select(range(6)), llama, tokenizer, ifd="loss_ratio", token_budget=7)
    assert second.cached
    assert forwards == []
    np.testing.assert_array_equal(second.loss_N, first.loss_N)
    np.testing.assert_array_equal(second.loss_alone_N, first.loss_alone_N)
    np.testing.assert_array_equal(second.tokens_N, first.tokens_N)
    np.testing.assert_array_equal(second.ifd_N, first.loss_N / first.loss_alone_N)
    assert [path.suffix for path in (cache / "scores").iterdir()] == [".parquet"]


@pytest.mark.parametrize("what", ["weights", "rows", "order", "opening", "autocast"])
def test_whatever_decides_the_scores_decides_the_cache(what, mixed, canonical, llama, tokenizer, cache):
    score(mixed, llama, tokenizer)
    if what == "weights":
        with torch.no_grad():
            llama.lm_head.weight[5, 5] += 1e-3
    elif what == "rows":
        mixed = tokenize(canonical(*[("what is it?", "a horse")] * 6), tokenizer)
    elif what == "order":
        mixed = mixed.select([1, 0, 2, 3, 4, 5])
    elif what == "opening":
        tokenizer.chat_template = "Answer: " + tokenizer.chat_template
    with torch.autocast("cpu", torch.bfloat16, enabled=what == "autocast"):
        assert not score(mixed, llama, tokenizer).cached


@pytest.mark.parametrize("batches_before", range(8))
def test_what_is_scored_stays_scored(batches_before, mixed, llama, tokenizer, cache, tmp_path, forwards):
    expected = score(mixed, llama, tokenizer, token_budget=1, cache_dir=tmp_path / "other")
    total = len(forwards)  # a batch per row and side
    forwards.clear()

    def stop(*call):
        if len(forwards) == batches_before:
            raise KeyboardInterrupt

    handle = llama.register_forward_pre_hook(stop, prepend=True)
    with pytest.raises(KeyboardInterrupt):
        score(mixed, llama, tokenizer, token_budget=1)
    handle.remove()
    told = []

    @contextmanager
    def track(phase, size):
        yield lambda count: told.append((phase, size, count))

    found = score(mixed, llama, tokenizer, token_budget=1, track=track)
    assert total == 8
    assert len(forwards) == total
    np.testing.assert_array_equal(found.loss_N, expected.loss_N)
    np.testing.assert_array_equal(found.loss_alone_N, expected.loss_alone_N)
    for phase, size in (("scoring", 5), ("scoring without instruction", 3)):
        assert sum(count for name, total, count in told if (name, total) == (phase, size)) == size


def test_a_scorer_that_overflows_gives_no_score(mixed, llama, tokenizer, cache):
    with torch.no_grad():
        llama.model.embed_tokens.weight[tokenizer("h")["input_ids"][0]] = torch.nan
    found = score(mixed, llama, tokenizer)
    has_h = [True, True, True, False, False, True]
    assert np.isnan(found.loss_N).tolist() == [*has_h[:4], True, has_h[5]]  # row 4 has no response
    assert np.isnan(found.loss_alone_N).all()  # of row 1 too, whose answers alone have no 'h'
    assert (found.tokens_N > 0).tolist() == [True, True, True, True, False, True]


def test_a_foreign_tokenizer_is_noticed(mixed, llama, tokenizer, cache):
    llama.resize_token_embeddings(80)
    with pytest.raises(ModelError, match=r"token id \d+, but the scorer knows ids below 80 only; tokenize them with"):
        score(mixed, llama, tokenizer)


def test_rows_that_are_too_long_for_the_scorer_are_noticed(mixed, llama, tokenizer, cache):
    llama.config.max_position_embeddings = 64
    with pytest.raises(ModelError, match=r"a row of 100 tokens is longer than the 64 .*lower max_length"):
        score(mixed, llama, tokenizer)


def test_no_rows_have_no_scores(mixed, llama, tokenizer, cache, forwards):
    assert len(score(mixed.select([]), llama, tokenizer).ifd_N) == 0
    assert score(mixed.select([4]), llama, tokenizer).tokens_N.tolist() == [0]
    assert forwards == []
