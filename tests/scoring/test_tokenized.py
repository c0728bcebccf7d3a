import numpy as np
import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from hbo.data.mixture import build_mixture
from hbo.data.tokens import tokenize
from hbo.errors import DataError
from hbo.progress import silent
from hbo.scoring.tokenized import Scan, check_mixture, tokenized

CHAT = [{"prompt": f"question {i}", "completion": "yes" * i} for i in range(1, 5)]
ADDED = ["input_ids", "labels"]


def same(found, expected):
    return all(found[name][:] == expected[name][:] for name in ["hbo_dataset", "hbo_row", *ADDED])


@pytest.fixture
def source():
    return Dataset.from_list(CHAT)


def test_canonical_rows_are_tokenized(source, tokenizer, cache):
    data = build_mixture({"chat": source})
    assert same(tokenized(data, tokenizer, 60, None, silent), tokenize(data, tokenizer, max_length=60))


def test_text_rows_are_tokenized_as_text(tokenizer, cache):
    data = build_mixture({"web": Dataset.from_dict({"text": ["some text", "more"]})})
    assert "prompt" not in data.column_names
    found = tokenized(data.select([1, 0]), tokenizer, 1024, None, silent)
    assert [tokenizer.decode(row["input_ids"]) for row in found] == ["more<|im_end|>", "some text<|im_end|>"]
    assert [row["labels"] for row in found] == [[-100, *row["input_ids"][1:]] for row in found]
    assert found["prompt"][:] == [[], []]


@pytest.mark.parametrize("other", ["vocabulary", "template"])
def test_tokens_of_another_tokenizer_are_made_anew(other, source, tokenizer, cache):
    data = build_mixture({"chat": source}, tokenizer=tokenizer)
    if other == "template":
        tokenizer.chat_template = "!" + tokenizer.chat_template
    else:
        tokenizer.add_tokens(["quest"])
    found = tokenized(data, tokenizer, 1024, None, silent)
    assert not same(found, data)
    assert same(found, tokenize(data, tokenizer, max_length=1024))


def test_tokens_of_this_tokenizer_are_taken_with_their_truncation(source, tokenizer, cache):
    data = build_mixture({"chat": source}, tokenizer=tokenizer, max_length=35)
    assert max(map(len, data["input_ids"])) == 35
    assert same(tokenized(data, tokenizer, 1024, None, silent), data)


def test_all_files_go_to_the_given_folder(tokenizer, cache, tmp_path):
    data = Dataset.from_dict({"text": ["some text"], "hbo_dataset": ["a"], "hbo_row": [0]})
    tokenized(data, tokenizer, 1024, tmp_path / "here", silent)
    assert list((tmp_path / "here").iterdir())
    assert not cache.exists()


ROW = {"hbo_dataset": ["a"], "hbo_row": [0]}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            DatasetDict(train=Dataset.from_dict(ROW), eval=Dataset.from_dict(ROW)),
            r"splits 'train', 'eval'.*pass data\['train'\]",
        ),
        (IterableDataset.from_generator(lambda: iter([])), "streaming dataset"),
        ([{"text": "a"}], "data is a list; pass the datasets.Dataset that build_mixture gives"),
        (
            Dataset.from_dict({"text": ["a"]}),
            "no column 'hbo_dataset' and no column 'hbo_row' .columns seen: text.*build_mixture",
        ),
        (Dataset.from_dict({**ROW, "prompt": ["a"]}), "no column 'completion'"),
        (Dataset.from_dict({**ROW, "input_ids": [[1]], "labels": [[1]]}), "no column 'prompt'"),
        (Dataset.from_dict({**ROW, "prompt": ["a"], "completion": ["b"]}), "'prompt' holds no lists of messages"),
    ],
)
def test_other_data_is_refused_in_one_sentence(data, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        check_mixture(data)
    assert "\n" not in str(caught.value)


def test_a_scan_counts_what_python_counts(mixed):
    scan = Scan.of(mixed)
    assert scan.length_N.tolist() == [len(row["input_ids"]) for row in mixed]
    assert scan.target_N.tolist() == [sum(label != -100 for label in row["labels"][1:]) for row in mixed]
    assert scan.has_instruction_N.tolist() == [True, True, False, False, True, True]
    assert scan.largest_id == max(max(row["input_ids"]) for row in mixed)
    assert scan.target_N[4] == 0


def test_a_label_on_the_first_token_is_no_target(mixed):
    labels = [[7, 7], [7], [], [-100, 7], [-100, -100], [7, -100]]
    ids = [[7] * len(row) for row in labels]
    columns = mixed.remove_columns(["input_ids", "labels"]).add_column("input_ids", ids).add_column("labels", labels)
    assert Scan.of(columns).target_N.tolist() == [1, 0, 0, 1, 0, 0]


def test_a_selection_is_scanned_in_its_order(mixed):
    whole, some = Scan.of(mixed), Scan.of(mixed.select([5, 1]))
    np.testing.assert_array_equal(some.target_N, whole.target_N[[5, 1]])
    assert len(Scan.of(mixed.select([])).length_N) == 0
