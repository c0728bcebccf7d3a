import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from example_runs import MULTITASK, read_lines, write_json, write_run

from hbo.errors import DataError
from hbo.report.markup import asset, group_tint
from hbo.report.page import payload, write_report

HOSTILE = {
    "<script>document.title='run'</script>": 100,
    "\"quoted\" 'twice' &amp; once": 110,
    "\u0645\u0631\u062d\u0628\u0627 \u202e backwards": 120,
    "👩‍👩‍👧 emoji": 130,
    "x" * 300: 140,
    "</script><img src=x onerror=alert(1)> $title ${figures} %{x}": 150,
    "half \ud800 pair \x00 nul": 160,
    "": 170,
}


class Page(HTMLParser):
    """The page's elements, its scripts and the text outside them."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.scripts, self.words, self.open = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "img", "link"}:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    def tags(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def figures(self):
        held = json.loads(self.scripts[0])
        for figure in held["figures"].values():
            for trace in figure["traces"]:
                trace["x"] = held["steps"][trace["x"]]
        return held["figures"]


def written(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(
    params=["finished", "running", "first line only", "static", "one dataset", "one group", "eight", "hostile"]
)
def any_folder(request, tmp_path):
    options = {
        "first line only": {"updates": 0},
        "static": {"static": True},
        "one dataset": {"sizes": {"math": 200}},
        "one group": {"groups": 1},
        "eight": {"sizes": {f"language {k}": 100 * (k + 1) for k in range(8)}, "updates": 40},
        "hostile": {"sizes": HOSTILE},
    }
    folder = write_run(tmp_path / "run", **options.get(request.param, {}))
    if request.param in {"running", "first line only"}:
        (folder / "metrics.json").unlink()
        (folder / "trainer_state.json").unlink()
    return folder


def test_every_page_is_whole_light_and_loads_nothing(any_folder):
    file = write_report(any_folder)
    assert file == any_folder / "report.html"
    assert file.stat().st_size < 400_000
    page = Page(file.read_text(encoding="utf-8"))
    assert not page.open
    for tag, attrs in page.elements:
        assert tag not in {"link", "iframe", "img", "object", "embed", "base", "form"}
        assert not {"src", "srcset", "data", "action"} & set(attrs)
        assert not any(key.startswith("on") for key in attrs)
        assert attrs.get("href", "#").startswith("#")
    html = file.read_text(encoding="utf-8")
    assert "@import" not in html
    assert "url(" not in html
    assert html.count("http://") == html.count("http://www.w3.org/2000/svg") == 1
    assert "https://" not in html


def test_every_chart_has_its_figure_a_name_and_an_explanation(any_folder):
    page = written(any_folder)
    charts = [attrs for attrs in page.tags("div") if "data-figure" in attrs]
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert sorted(attrs["data-figure"] for attrs in charts) == sorted(page.figures)
    assert len(ids) == len(set(ids))
    for attrs in charts:
        assert attrs["role"] == "img"
        assert attrs["aria-label"]
        assert attrs["aria-describedby"] in ids
    assert all(attrs["href"][1:] in ids for attrs in page.tags("a"))


def test_every_button_commands_a_series_of_its_charts(any_folder):
    page, charts = written(any_folder), ""
    for _, attrs in page.elements:
        charts = attrs.get("data-charts", charts)
        if "data-key" in attrs:
            traces = [t for key, figure in page.figures.items() if key.startswith(charts) for t in figure["traces"]]
            assert any(attrs["data-key"] in (t["key"], "target" if t.get("target") else "") for t in traces)


def test_headings_go_down_one_level_at_a_time(any_folder):
    levels = [int(tag[1]) for tag, _ in written(any_folder).elements if tag in {"h1", "h2", "h3", "h4"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_tables_hold_the_key_numbers(run_folder):
    text, metrics, last = (
        written(run_folder).text,
        json.loads((run_folder / "metrics.json").read_text()),
        read_lines(run_folder)[-1],
    )
    for name in MULTITASK:
        assert f"{metrics['eval'][name]['perplexity']:,.2f}" in text
        assert f"{metrics['eval_before'][name]['nll']:.3f}" in text
        assert f"{100 * last['global'][name]:.1f}%" in text
        assert f"{last['global_reward'][name]:.3f} ± {last['global_reward_se'][name]:.3f}" in text
        assert f"25.0% → {100 * last['local'][name][3]:.1f}%" in text
        assert f"{last['local_reward'][name][0]:.3f} ± {last['local_reward_se'][name][0]:.3f}" in text
    assert f"{metrics['macro_nll']:.3f}" in text
    assert f"{metrics['relative_nll']:.3f}" in text
    drawn = sum(line["drawn"]["math"][2] for line in read_lines(run_folder))
    assert f"{drawn}{100 * drawn / 1920:.1f}%, asked" in text.replace(" 1,920", "")
    assert "412,000" in text
    assert "8.9%" in text
    assert "7 min 12 s" in text


def test_rows_drawn_are_those_of_the_whole_run_even_without_an_update(tmp_path):
    folder = write_run(tmp_path / "static", static=True, updates=0)
    assert "counts no rows drawn yet" in written(folder).text
    metrics = json.loads((folder / "metrics.json").read_text())
    drawn = {name: [10, 20, 30, 40] for name in MULTITASK} | {"math": [1, 2, 3, 494]}
    write_json(folder / "metrics.json", metrics | {"drawn": drawn})
    text = written(folder).text
    assert "rows consumed in all steps" in text
    assert f"494{100 * 494 / 800:.1f}%, asked" in text
    assert "800" in text


def test_epochs_are_shown_when_sizes_are_known_and_repetition_is_marked(run_folder):
    assert "⚠" not in written(run_folder).text
    metrics = json.loads((run_folder / "metrics.json").read_text())
    write_json(run_folder / "metrics.json", metrics | {"sizes": {"math": [1, 100, 100, 100]}})
    text = written(run_folder).text
    drawn = [sum(line["drawn"]["math"][j] for line in read_lines(run_folder)) for j in range(2)]
    assert f"⚠ {drawn[0]:.2f} ×" in text
    assert f"{drawn[1] / 100:.2f} ×" in text
    assert f"⚠ {drawn[1] / 100:.2f} ×" not in text


def test_what_is_missing_is_said_and_the_rest_is_shown(run_folder):
    (run_folder / "metrics.json").unlink()
    (run_folder / "trainer_state.json").unlink()
    page = written(run_folder)
    assert "Unfinished: there is no metrics.json" in page.text
    assert "measured when the run ends" in page.text
    assert "There is no trainer_state.json" in page.text
    assert "global-p" in page.figures
    assert "math rose most" in page.text


def test_a_finished_run_has_no_warning(run_folder):
    assert "there is no" not in written(run_folder).text.lower()


def test_a_thinned_chart_says_so(tmp_path):
    assert "ledger lines" not in written(write_run(tmp_path / "short")).text
    long = write_run(tmp_path / "long", {"a": 100, "b": 50}, groups=2, updates=520, every=1)
    assert "the chart shows 500 of its 521 ledger lines" in written(long).text


def test_a_static_run_says_that_nothing_was_measured(tmp_path):
    text = written(write_run(tmp_path / "static", static=True)).text
    assert "measures no rewards: its probabilities are frozen" in text
    assert not re.search(r"\bnan\b", text.lower())


def test_hostile_names_stay_text(tmp_path):
    page = written(write_run(tmp_path / "run", HOSTILE))
    assert len(page.scripts) == 2
    assert page.tags("img") == []
    assert "<script>document.title='run'</script>" in page.text
    assert "</script><img src=x onerror=alert(1)> $title ${figures} %{x}" in page.text
    titles = [attrs["title"] for attrs in page.tags("bdi")]
    assert "x" * 300 in titles
    names = {trace["name"] for trace in page.figures["global-p"]["traces"]}
    assert "\u2068<script>document.title='run…\u2069" in names


def test_a_hostile_configuration_stays_text(run_folder):
    (run_folder / "config.yaml").write_text('model: "</code></pre><script>alert(1)</script>"\nbalance: {method: <b>}\n')
    page = written(run_folder)
    assert len(page.scripts) == 2
    assert page.tags("b") == []
    assert 'model: "</code></pre><script>alert(1)</script>"' in page.text


def test_a_reward_of_ones_own_stays_text(run_folder):
    with (run_folder / "config.yaml").open("a") as file:
        file.write("  global_reward: '<img src=x>'\n")
    page = written(run_folder)
    assert page.tags("img") == []
    assert "Here the reward is <img src=x>." in page.text


def test_nothing_in_the_payload_ends_its_script():
    trace = {"name": "</script><!-- & \u2028", "x": [0, 5], "y": [1.0, None]}
    held = payload({"a": {"y": "<i>", "traces": [trace, trace]}})
    assert not set(held) & set("<>&\u2028")
    assert json.loads(held) == {"steps": [[0, 5]], "figures": {"a": {"y": "<i>", "traces": [trace | {"x": 0}] * 2}}}


def test_only_the_pages_own_scripts_may_run(run_folder):
    page = written(run_folder)
    policy = next(attrs["content"] for attrs in page.tags("meta") if "http-equiv" in attrs)
    scripts = re.search(r"script-src ([^;]+);", policy)[1]
    assert "default-src 'none'" in policy
    assert len(re.findall(r"'sha256-[\w+/]{43}='", scripts)) == len(scripts.split()) == 1


def test_the_script_reads_only_colours_that_the_style_sheet_has():
    css, script = asset("report/templates/page.css"), asset("report/templates/charts.js")
    found = re.findall(r"var\((--\w+)\)", script + "".join(group_tint(j, 5) for j in range(5)))
    assert {"--easy", "--middle", "--hard"} <= set(found)
    for name in [*found, "--ink", "--muted", "--c0", "--c7"]:
        assert css.count(f"{name}:") == 2


def test_the_page_is_replaced_in_one_go_and_leaves_nothing_beside_it(run_folder, tmp_path):
    before = sorted(path.name for path in run_folder.iterdir())
    write_report(run_folder)
    write_report(run_folder)
    assert sorted(path.name for path in run_folder.iterdir()) == sorted([*before, "report.html"])
    out = tmp_path / "new" / "page.html"
    assert write_report(run_folder, out) == out
    assert out.stat().st_mode & 0o044 == (run_folder / "metrics.json").stat().st_mode & 0o044


def test_a_place_that_cannot_be_written_is_one_sentence(run_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="the report can't be written"):
        write_report(run_folder, tmp_path / "file" / "page.html")
    with pytest.raises(DataError, match="the report can't be written"):
        write_report(run_folder, tmp_path)


def test_accuracy_stands_beside_the_held_out_loss(run_folder):
    assert "Accuracy" not in Page(write_report(run_folder).read_text()).text
    metrics = json.loads((run_folder / "metrics.json").read_text())
    metrics["accuracy"] = {"math": {"accuracy": 0.625, "n": 16, "kind": "numeric"}}
    write_json(run_folder / "metrics.json", metrics)
    shown = Page(write_report(run_folder).read_text()).text
    assert "Accuracy after" in shown
    assert "10 of 16 62.5%" in shown
