import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from hbo.report.markup import Grid, asset, label, markup, name, number, rendered, series_look, swatch, with_error


@given(st.text())
def test_no_text_opens_a_tag_or_leaves_its_attribute(raw):
    shown = markup("{}", raw)
    assert not set(shown) & set("<>\"'")
    assert set(re.sub(r"&(lt|gt|amp|#34|#39);", "", shown)).isdisjoint("&")


@given(st.text())
def test_a_label_is_one_short_line_that_turns_no_text_round(raw):
    shown = label(raw)
    assert (shown[0], shown[-1]) == ("\u2068", "\u2069")
    assert not set(shown) & set("\n\t")
    assert not set(shown[1:-1]) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert len(shown) <= 30


def test_a_name_is_isolated_shortened_and_whole_in_its_title():
    shown = name("x" * 300)
    assert shown.startswith("<bdi ")
    assert f'title="{"x" * 300}"' in shown
    assert f">{'x' * 119}…<" in shown


def test_no_two_of_64_datasets_look_alike():
    assert len({series_look(k) for k in range(64)}) == 64
    assert len({series_look(k)[0] for k in range(8)}) == 8


def test_a_swatch_shows_the_look_of_its_series():
    assert 'class="swatch c1"' in swatch("d9")
    assert 'stroke-dasharray="6 3"' in swatch("d9")
    assert 'stroke-dasharray=""' in swatch("d1")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234.5678, "1,234.568"), (-0.5, "−0.500"), (3e9, "3.00e+09"), (float("inf"), "∞"), (-3e9, "−3.00e+09")],
)
def test_numbers_stay_readable(value, shown):
    assert number(value) == shown


def test_what_was_not_measured_is_a_dash():
    assert "not measured" in number(None) == number(float("nan"))
    assert with_error(1.0, float("nan")) == "1.000"
    assert "± 0.100" in with_error(1.0, 0.1)


def test_a_tables_header_cells_say_what_they_head():
    grid = Grid("Things", ["Name", "Size"], [["a", "1"], ["b", Markup('<td class="x">2</td>')], ["c", "<td>3</td>"]])
    shown = rendered("report/templates/cost.html", one=False, costs=grid)
    assert (shown.count('scope="col"'), shown.count('scope="row"')) == (2, 3)
    assert "<td>1</td>" in shown
    assert '<td class="x">2</td>' in shown
    assert "<td>&lt;td&gt;3&lt;/td&gt;</td>" in shown
    assert 'tabindex="0"' in shown


def schemes():
    css = asset("report/templates/page.css")
    light, dark = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    return [dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", part)) for part in (light, dark)]


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", schemes(), ids=["light", "dark"])
def test_lines_and_text_stand_out_from_both_schemes_panels(scheme):
    def contrast(name):
        dark, light = sorted([luminance(scheme[name]), luminance(scheme["panel"])])
        return (light + 0.05) / (dark + 0.05)

    assert all(contrast(f"c{k}") >= 3 for k in range(8))
    assert all(contrast(name) >= 3 for name in ("easy", "middle", "hard"))
    assert all(contrast(name) >= 4.5 for name in ("ink", "muted", "accent", "better", "worse"))
