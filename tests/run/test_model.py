"""What `train:` says of the model reaches it, or is refused."""

import pytest
import torch

from hbo.config import RunConfig
from hbo.errors import HBOError
from hbo.run.arguments import training_arguments
from hbo.run.model import load_weights


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_what_transformers_is_to_be_told_of_the_model_reaches_it(implementation, model_folder, tmp_path):
    options = {"attn_implementation": implementation, "dtype": "bfloat16"}
    config = RunConfig(
        model=str(model_folder),
        output=str(tmp_path),
        mixture={"datasets": {"a": "a.jsonl"}},
        train={"bf16": False, "model_init_kwargs": options},
    )
    model = load_weights(str(model_folder), training_arguments(config))
    assert model.config._attn_implementation == implementation
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "words"),
    [({"no_such_option": 1}, "no_such_option"), ({"trust_remote_code": True}, "train.trust_remote_code")],
)
def test_options_of_the_model_that_mean_nothing_are_refused(options, words, model_folder, tmp_path):
    train = {"bf16": False, "model_init_kwargs": options}
    mixture = {"datasets": {"a": "a.jsonl"}}
    config = RunConfig(model=str(model_folder), output=str(tmp_path), mixture=mixture, train=train)
    with pytest.raises(HBOError, match=words):
        load_weights(str(model_folder), training_arguments(config))
