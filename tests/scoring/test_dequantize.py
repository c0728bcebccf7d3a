import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hbo.errors import ModelError
from hbo.progress import silent
from hbo.scoring.dequantize import from_file
from hbo.scoring.models import load_model, load_tokenizer, resolve

WIDTH, HIDDEN, LAYERS = 32, 64, 2


def write_gguf(path, seed=0, quantization=gguf.GGMLQuantizationType.Q8_0):
    """A random two-layer Llama with a byte-level tokenizer, as llama.cpp would write it; its embedding is returned."""
    random = np.random.default_rng(seed)
    tokens = ["<|end|>", *(chr(code) for code in range(33, 127)), "Ġ", "Ċ", "he"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(0)  # transformers 5.16 reads no file without one
    writer.add_eos_token_id(0)

    def add(name, *shape):
        values = random.normal(0, 0.1, shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values + 1)
        else:
            packed = gguf.quants.quantize(values, quantization)
            writer.add_tensor(name, packed, raw_dtype=quantization)
        return values

    embedding = add("token_embd.weight", len(tokens), WIDTH)
    for i in range(LAYERS):
        add(f"blk.{i}.attn_norm.weight", WIDTH)
        add(f"blk.{i}.ffn_norm.weight", WIDTH)
        for part in ("q", "k", "v", "output"):
            add(f"blk.{i}.attn_{part}.weight", WIDTH, WIDTH)
        add(f"blk.{i}.ffn_gate.weight", HIDDEN, WIDTH)
        add(f"blk.{i}.ffn_up.weight", HIDDEN, WIDTH)
        add(f"blk.{i}.ffn_down.weight", WIDTH, HIDDEN)
    add("output_norm.weight", WIDTH)
    add("output.weight", len(tokens), WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return embedding


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HBO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_gguf_file_becomes_a_float32_folder_that_transformers_loads(tmp_path):
    embedding = write_gguf(tmp_path / "tiny.gguf")
    folder = resolve(str(tmp_path / "tiny.gguf"))

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    error = np.abs(model.get_input_embeddings().weight.detach().numpy() - embedding)
    assert 0 < error.max() < 0.01  # 8 bits were left of it
    assert AutoTokenizer.from_pretrained(folder)("he")["input_ids"]


def test_model_and_tokenizer_load_from_the_file_itself(tmp_path):
    write_gguf(tmp_path / "tiny.gguf")
    model = load_model(str(tmp_path / "tiny.gguf"))
    tokenizer = load_tokenizer(str(tmp_path / "tiny.gguf"))
    assert model(**tokenizer("he", return_tensors="pt")).logits.isfinite().all()
    assert tokenizer.pad_token == "<|end|>"


def test_a_file_is_converted_once(tmp_path, cache):
    write_gguf(tmp_path / "tiny.gguf")
    phases = []

    def track(phase, total):
        phases.append(phase)
        return silent(phase, total)

    first = from_file(tmp_path / "tiny.gguf", cache, track)
    assert from_file(tmp_path / "tiny.gguf", cache, track) == first
    assert phases == ["dequantizing the model"]


def test_another_file_of_the_same_name_is_another_model(tmp_path, cache):
    write_gguf(tmp_path / "tiny.gguf")
    first = from_file(tmp_path / "tiny.gguf", cache, silent)
    write_gguf(tmp_path / "tiny.gguf", seed=1)
    assert from_file(tmp_path / "tiny.gguf", cache, silent) != first


def test_a_neighbours_config_is_not_taken_for_the_files_own(tmp_path):
    write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_embd": 8}')
    assert load_model(str(tmp_path / "tiny.gguf")).config.hidden_size == WIDTH


@pytest.mark.parametrize("keep", [10, 3000])
def test_a_truncated_file_is_one_sentence_and_leaves_nothing(tmp_path, cache, keep):
    write_gguf(tmp_path / "tiny.gguf")
    whole = (tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "tiny.gguf").write_bytes(whole[:keep])
    with pytest.raises(ModelError, match=r"tiny\.gguf: can't be read as GGUF .*download it again"):
        resolve(str(tmp_path / "tiny.gguf"))
    assert list((cache / "models").iterdir()) == []


def test_nothing_is_printed(tmp_path, capfd):
    write_gguf(tmp_path / "tiny.gguf")
    capfd.readouterr()
    load_model(str(tmp_path / "tiny.gguf"))
    assert capfd.readouterr() == ("", "")
