"""Arbitrary configurations and rows: what comes out is a result or an HBOError."""

import json
from dataclasses import asdict

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hbo import HBOConfig, build_mixture
from hbo.config import RunConfig
from hbo.config.balance import ActorConfig
from hbo.config.data import DatasetConfig, DifficultyConfig, MixtureConfig
from hbo.config.file import dump, load, parse
from hbo.data.canonical import cells_of, conversation_of
from hbo.data.columns import SPELLINGS
from hbo.data.formats import FORMATS
from hbo.data.reader import Reader
from hbo.data.unusable import BadRowError
from hbo.errors import ConfigError, DataError, HBOError

MANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
HEAD = "model: m\nmixture:\n  datasets:\n    a: a.jsonl\n"
SECTIONS = (RunConfig, MixtureConfig, DatasetConfig, DifficultyConfig, HBOConfig, ActorConfig)
KEYS = sorted({field for section in SECTIONS for field in section.model_fields} | {"global", "local", "<<", ""})
TEXT = st.text(st.characters(), max_size=12)  # with surrogates and control characters
ATOM = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.sampled_from(["hbo", "a.jsonl", "1e3", "ifd"]),
    st.integers(min_value=0, max_value=2**4000), st.dates(), st.binary(max_size=4),
)  # fmt: skip
KEY = st.one_of(st.sampled_from(KEYS), st.integers(0, 3), TEXT, st.none())
NESTED = st.recursive(
    ATOM, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=4), max_leaves=12
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "c.yaml"


@MANY
@given(text=st.text(max_size=200), behind=st.booleans(), overrides=st.lists(st.text(max_size=30), max_size=2))
def test_any_text_is_a_configuration_or_a_config_error(file, text, behind, overrides):
    file.write_text((HEAD if behind else "") + text, encoding="utf-8", errors="surrogatepass")
    refused_or_read_back(file, overrides)


@MANY
@given(
    words=st.lists(st.sampled_from(["a:", " b", "\n", "- ", "&x ", "*x", "<<: ", "{", "}", "[", "]", "!!int ", "!!set ",
                                    "? ", ": ", "'", '"', "|\n", "#", "0x1", "1:2", "2020-01-01", "!!binary ", "\t",
                                    "!!omap ", "model: ", "mixture:\n  ", "datasets: ", "%TAG", "---\n", "...", "~", "\\"]),
                   max_size=40),
    behind=st.booleans(),
)  # fmt: skip
def test_any_pieces_of_yaml_are_a_configuration_or_a_config_error(file, words, behind):
    file.write_text((HEAD if behind else "") + "".join(words), encoding="utf-8")
    refused_or_read_back(file, ())


def refused_or_read_back(file, overrides):
    try:
        config = load(file, overrides)
    except ConfigError as error:
        assert str(error)
        return
    again = file.with_name("again.yaml")
    again.write_text(dump(config), encoding="utf-8")
    assert load(again).mixture.datasets.keys() == config.mixture.datasets.keys()


@MANY
@given(data=st.dictionaries(KEY, NESTED, max_size=5), whole=st.booleans())
@pytest.mark.filterwarnings("ignore:mixture.temperature is:UserWarning")
def test_any_data_is_a_configuration_or_a_config_error(data, whole):
    if whole:
        data = {"model": "m", "mixture": {"datasets": {"a": "a.jsonl"}}, **data}
    try:
        parse(data)
    except ConfigError as error:
        assert len(str(error)) < 3000


@pytest.mark.parametrize("section", SECTIONS)
@MANY
@given(data=st.dictionaries(st.sampled_from(KEYS), NESTED, max_size=4))
def test_a_section_made_in_python_raises_an_hbo_error_only(section, data):
    try:
        section(**data)
    except ConfigError as error:
        assert str(error).startswith(f"{section.__name__}: ")


@MANY
@given(path=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4), value=NESTED)
@pytest.mark.filterwarnings("ignore:mixture.temperature is:UserWarning")
def test_any_override_is_taken_or_refused(file, path, value):
    file.write_text(HEAD)
    try:
        raw = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True).strip()
    except (yaml.YAMLError, ValueError):
        return
    try:
        load(file, [f"{'.'.join(path)}={raw}"])
    except ConfigError as error:
        assert str(error)


TURN = st.dictionaries(st.sampled_from(["role", "from", "content", "value", "type", "text", "tool_calls", "thinking", "weight"]),
                       st.one_of(st.sampled_from(["user", "assistant", "gpt", "system", "text", "function_call"]), NESTED),
                       max_size=4)  # fmt: skip
COLUMN = st.sampled_from([name for column, others in SPELLINGS.items() for name in (column, *others)])
ROW = st.dictionaries(COLUMN | TEXT, st.one_of(NESTED, TEXT, st.lists(TURN | NESTED, max_size=3)), max_size=5)
FORMAT = st.sampled_from([name for each in FORMATS for name in (each.name, *each.aliases)])


@MANY
@given(rows=st.lists(ROW, min_size=1, max_size=4), format=st.none() | FORMAT | TEXT,
       columns=st.none() | st.lists(COLUMN | TEXT, max_size=2) | st.dictionaries(COLUMN, COLUMN | TEXT, max_size=2))  # fmt: skip
def test_any_row_becomes_messages_or_a_data_error(rows, format, columns):
    try:
        reader = Reader("d", format=format, columns=columns)
    except DataError:
        return
    for row in rows:
        try:
            conversation = reader.read(row, "row 0")
            cells = cells_of(conversation)
        except (DataError, BadRowError) as error:
            assert str(error)
        else:
            assert conversation.completion
            assert conversation_of(cells) == conversation
            json.dumps(conversation, ensure_ascii=False).encode("utf-8")
    json.dumps(asdict(reader.account))


@settings(MANY, max_examples=25)
@given(rows=st.lists(ROW | NESTED, min_size=1, max_size=3), name=TEXT)
def test_any_json_lines_become_a_mixture_or_an_hbo_error(tmp_path, rows, name):
    path = tmp_path / "rows.jsonl"
    try:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    except (TypeError, ValueError):
        return
    try:
        build_mixture({name: path}, cache_dir=tmp_path / "cache")
    except HBOError as error:
        assert str(error)
