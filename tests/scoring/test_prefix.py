"""The tokens that all rows begin with are run once, and change no loss."""

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st
from test_losses import FAMILIES, GROUPED, tiny
from transformers.cache_utils import DynamicLayer

from hbo.data.tokens import IGNORED
from hbo.scoring.losses import batch_losses
from hbo.scoring.prefix import PrefixScorer, shared_prefix

SLIDING = {
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**GROUPED, sliding_window=6)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=6)),
}


def rows_after(prefix, lengths=(12, 5, 9, 17), seed=0):
    """Rows that begin with the same tokens; the last three of each are targets."""
    rng = np.random.default_rng(seed)
    rows = []
    for n, length in enumerate(lengths):
        ids = np.concatenate([prefix, [10 + n], rng.integers(4, 97, length)])
        rows.append((ids, np.where(np.arange(len(ids)) < len(ids) - 3, IGNORED, ids)))
    return rows


def tokens_run(model, work):
    """What `work` gives, and how many tokens the model was given for it."""
    seen = []
    handle = model.register_forward_pre_hook(
        lambda _, args, inputs: seen.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    found = work()
    handle.remove()
    return found, sum(seen)


@pytest.mark.parametrize(
    ("family", "is_used"),
    [("llama", True), ("qwen3", True), ("gpt2", True), ("cohere", True), ("granite", True), ("gemma2", False),
     ("mistral", False), ("gemma3", False), ("mamba", False), ("xlm", False), ("number only", False)],
)  # fmt: skip
def test_every_family_has_the_losses_it_has_without(family, is_used, monkeypatch):
    monkeypatch.setattr("test_losses.FAMILIES", FAMILIES | SLIDING)
    model, prefix = tiny(family), np.arange(30, 60)
    rows, others = rows_after(prefix), rows_after(prefix, seed=1)
    scorer = PrefixScorer(model)
    np.testing.assert_allclose(scorer.losses(rows, 3), batch_losses(model, rows, 3), rtol=1e-5)
    found, tokens = tokens_run(model, lambda: scorer.losses(others, 3))
    np.testing.assert_allclose(found, batch_losses(model, others, 3), rtol=1e-5)
    longest = max(len(ids) for ids, _ in rows)
    if hasattr(DynamicLayer, "lazy_initialization"):  # transformers 4.56; until then layers are kept in other caches
        assert tokens == len(rows) * (longest - len(prefix) * is_used)


def test_another_prefix_is_run_anew_and_none_is_no_matter():
    model = tiny()
    scorer = PrefixScorer(model)
    for prefix in (np.arange(30, 60), np.arange(31, 61), np.empty(0, dtype=int)):
        rows = rows_after(prefix)
        np.testing.assert_allclose(scorer.losses(rows, 3), batch_losses(model, rows, 3), rtol=1e-5)


def test_in_bf16_it_is_used_as_well():
    model, rows = tiny(), rows_after(np.arange(30, 60))
    scorer = PrefixScorer(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_allclose(scorer.losses(rows, 3), batch_losses(model, rows, 3), rtol=5e-2)
        _, tokens = tokens_run(model, lambda: scorer.losses(rows, 3))
    assert tokens == len(rows) * 18


def test_a_model_that_forgets_what_stood_before_is_found_out():
    model, rows = tiny(), rows_after(np.arange(30, 60))

    def forget(layer, args, inputs):
        mask, ids = inputs.get("attention_mask"), inputs["input_ids"]
        return args, inputs | {
            "past_key_values": None,
            "attention_mask": mask if mask is None else mask[:, -ids.shape[1] :],
        }

    expected = batch_losses(model, rows, 3)
    scorer = PrefixScorer(model)
    handle = model.register_forward_pre_hook(forget, with_kwargs=True)
    np.testing.assert_allclose(scorer.losses(rows, 3), expected, rtol=1e-5)
    np.testing.assert_allclose(scorer.losses(rows, 3), expected, rtol=1e-5)
    handle.remove()


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=4), st.data())
def test_a_shared_prefix_is_shared_and_leaves_each_target_its_predecessor(ids_of, data):
    rows = []
    for ids in map(np.array, ids_of):
        is_target = np.array(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))))
        is_target[0] = False
        rows.append((ids, np.where(is_target, ids, IGNORED)))
    P = shared_prefix(rows)
    assert all((ids[:P] == rows[0][0][:P]).all() for ids, _ in rows)
    assert all((labels[: P + 1] == IGNORED).all() and len(labels) > P for _, labels in rows)
