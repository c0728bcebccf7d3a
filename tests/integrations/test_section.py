import pytest

from hbo.errors import ConfigError
from hbo.integrations.section import TrainerSection, section_of


def test_no_section_is_a_section_of_defaults():
    section = section_of(None)
    assert section == TrainerSection()
    assert (section.method, section.difficulty.metric, section.difficulty.groups) == ("hbo", "ifd", 4)


def test_a_method_sets_its_defaults_and_keys_beside_it_hold():
    section = section_of({"method": "uniform", "weights": {"a": 2}, "difficulty": {"metric": "length", "groups": 2}})
    assert section.is_static
    assert section.weights == {"a": 2}
    assert (section.difficulty.metric, section.difficulty.groups) == ("length", 2)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"updat_every": 5}, "c.yaml: unknown key 'updat_every' (did you mean 'update_every'?)"),
        ({"difficulty": {"metric": "lenght"}}, "c.yaml: 'difficulty.metric' is 'lenght', but input should be"),
        ({"difficulty": {"groop": 2}}, "c.yaml: unknown key 'difficulty.groop'"),
        ({"weights": {"a": 0}}, "c.yaml: 'weights"),
        ({"method": "hbi"}, "hbi"),
        (True, "c.yaml: is True, but it takes keys"),
        ([1], "c.yaml: is a list of 1, but it takes keys"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(data, said):
    with pytest.raises(ConfigError) as refused:
        section_of(data, "c.yaml")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
