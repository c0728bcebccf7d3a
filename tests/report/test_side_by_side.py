import json

import pytest
from commands import refused
from example_runs import MULTITASK, read_lines, write_lines, write_mixture, write_run
from test_page import HOSTILE, Page

from hbo.errors import ConfigError, DataError
from hbo.report.markup import asset
from hbo.report.page import write_report, write_reports


def written(*folders, file="page.html"):
    return Page(write_reports(folders, folders[0].parent / file).read_text(encoding="utf-8"))


@pytest.fixture
def pair(tmp_path):
    return write_run(tmp_path / "first"), write_run(tmp_path / "second", seed=1)


def test_a_dataset_looks_the_same_in_every_run_whatever_its_place_there(tmp_path):
    one = write_run(tmp_path / "one", {"math": 100, "chat": 200})
    two = write_run(tmp_path / "two", {"code": 50, "chat": 200, "math": 100})
    figures = written(one, two).figures
    looks = {}
    for key, figure in figures.items():
        if "global" in key or "loss" in key:
            for trace in figure["traces"]:
                if trace["key"] != "overall":
                    looks.setdefault(trace["name"], set()).add((trace["key"], trace["colour"], trace["symbol"]))
    assert {name: len(found) for name, found in looks.items()} == {"⁨math⁩": 1, "⁨chat⁩": 1, "⁨code⁩": 1}
    assert len({next(iter(found)) for found in looks.values()}) == 3


def test_one_legend_commands_the_charts_of_all_runs(pair):
    page = written(*pair)
    legends = [attrs for attrs in page.tags("ul") if "data-charts" in attrs]
    assert len(legends) == 1
    assert all(key.startswith(legends[0]["data-charts"]) for key in page.figures)
    keys = [attrs["data-key"] for attrs in page.tags("button")]
    assert keys == [*(f"d{k}" for k in range(4)), *(f"g{j}/4" for j in range(4)), "target"]
    drawn = {trace["key"] for figure in page.figures.values() for trace in figure["traces"]}
    assert drawn - {"overall", "reference"} <= set(keys)


def test_the_page_is_whole_and_every_chart_has_its_figure(pair, tmp_path):
    page = written(*pair, write_run(tmp_path / "third", HOSTILE))
    assert not page.open
    assert len(page.scripts) == 2
    charts = [attrs for attrs in page.tags("div") if "data-figure" in attrs]
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert sorted(attrs["data-figure"] for attrs in charts) == sorted(page.figures)
    assert len(ids) == len(set(ids))
    assert all(attrs["aria-describedby"] in ids and attrs["aria-label"] for attrs in charts)
    assert all(attrs["href"][1:] in ids for attrs in page.tags("a"))
    assert "<script>document.title='run'</script>" in page.text


def test_charts_of_one_kind_share_their_axes(pair):
    figures = written(*pair).figures
    for kind in ("global-p", "local-p-2", "global-reward", "loss"):
        ranges = {(*figures[f"r{i}-{kind}"]["range"], figures[f"r{i}-{kind}"]["until"]) for i in range(2)}
        assert len(ranges) == 1
        low, high, _ = ranges.pop()
        values = [
            y for i in range(2) for trace in figures[f"r{i}-{kind}"]["traces"] for y in trace["y"] if y is not None
        ]
        assert low <= min(values) <= max(values) < high


def test_another_reward_has_an_axis_of_its_own(pair):
    one = written(*pair).figures["r0-global-reward"]["range"]
    config = pair[1] / "config.yaml"
    config.write_text(config.read_text().replace("method: hbo", "method: mos\n  global_reward: transferability"))
    ledger = read_lines(pair[1])
    for line in ledger[1:]:
        line["global_reward"] = {name: reward * 100 for name, reward in line["global_reward"].items()}
    write_lines(pair[1], ledger)
    figures = written(*pair).figures
    assert figures["r0-global-reward"]["range"][1] <= one[1]
    assert figures["r1-global-reward"]["range"][1] > 50 * one[1]
    assert figures["r0-global-p"]["range"] == figures["r1-global-p"]["range"]


def test_eight_long_runs_make_one_light_page_with_the_script_once(tmp_path):
    sizes = {f"language {k}": 100 * (k + 1) for k in range(8)}
    runs = [write_run(tmp_path / f"run{i}", sizes, updates=120, seed=i) for i in range(8)]
    file = write_reports(runs, tmp_path / "page.html")
    assert file.stat().st_size < 800_000
    assert file.read_text(encoding="utf-8").count(asset("report/templates/charts.js")) == 1


def test_tables_put_the_runs_numbers_side_by_side(pair):
    text = written(*pair).text
    for folder in pair:
        metrics, last = json.loads((folder / "metrics.json").read_text()), read_lines(folder)[-1]
        for name in MULTITASK:
            assert f"{metrics['eval'][name]['nll']:.3f}" in text
            assert f"→ {100 * last['global'][name]:.1f}%" in text
            assert f"→ {100 * last['local'][name][2]:.1f}%" in text
        assert f"{metrics['macro_nll']:.3f}" in text
    assert "The runs have the same settings" in text


def test_settings_that_differ_are_listed(pair):
    config = (pair[1] / "config.yaml").read_text()
    (pair[1] / "config.yaml").write_text(config.replace("seed: 0", "seed: 7") + "output: elsewhere\n")
    text = written(*pair).text
    assert "Settings that differSettingfirstsecondseed07" in text
    assert "elsewhere" not in text.split("At a glance")[1].split("Share of each dataset")[0]


def test_many_settings_that_differ_are_folded_up(pair):
    assert "settings that differ" not in written(*pair).text
    config = pair[1] / "config.yaml"
    config.write_text(config.read_text() + "train:\n" + "".join(f"  key{i}: {i}\n" for i in range(20)))
    assert "20 settings that differ" in written(*pair).text


def test_datasets_stand_abreast_where_there_is_room_for_the_charts_of_one(pair, tmp_path):
    def abreast(*folders):
        return [tag["style"] for tag in written(*folders).tags("div") if tag.get("class") == "blocks"]

    assert abreast(*pair) == ["--charts: 2"] * 2
    static = [write_run(tmp_path / f"static{i}", static=True) for i in range(2)]
    assert abreast(pair[0], *static) == ["--charts: 3", "--charts: 1"]  # two of them measured nothing


def test_runs_whose_mixtures_differ_are_shown_and_told_apart(tmp_path):
    one = write_run(tmp_path / "one", {"math": 100, "chat": 200}, groups=2)
    two = write_run(tmp_path / "two", {"math": 100, "code": 50}, groups=3)
    page = written(one, two)
    assert "Mixtures differ: chat is only in one; code is only in two; the datasets are cut into" in page.text
    assert {"g0/2", "g1/2", "g0/3", "g2/3"} <= {attrs["data-key"] for attrs in page.tags("button")}
    assert "Mixtures differ" not in written(one, write_run(tmp_path / "three", {"chat": 9, "math": 9}, groups=2)).text


def test_a_run_that_goes_on_stands_beside_a_finished_one(pair):
    for name in ("metrics.json", "trainer_state.json", "config.yaml"):
        (pair[1] / name).unlink()
    with (pair[1] / "balance.jsonl").open("a") as file:
        file.write('{"step": 140, "sta')
    page = written(*pair)
    assert "120, unfinished" in page.text
    assert "r0-loss" in page.figures
    assert "r1-loss" not in page.figures


def test_a_first_line_alone_and_a_frozen_run_are_drawn_to_their_end(pair, tmp_path):
    static = write_run(tmp_path / "static", static=True)
    write_lines(static, read_lines(static)[:1])
    page = written(pair[0], static)
    assert page.figures["r1-global-p"]["traces"][0]["until"] == 120
    assert "Measured no rewards: static." in page.text


def test_folders_of_the_same_name_are_told_apart_by_their_paths(tmp_path):
    page = written(write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run"), file="../page.html")
    titles = {attrs["title"] for attrs in page.tags("bdi")}
    assert {"a/run", "b/run"} <= titles
    assert "run" not in titles


def test_a_run_given_twice_is_refused(pair):
    with pytest.raises(ConfigError, match="is given twice"):
        write_reports([pair[0], pair[1], pair[0] / ".." / "first"], pair[0].parent / "page.html")


def test_several_runs_without_a_place_are_refused_and_leave_nothing(pair):
    before = sorted(path.name for path in pair[0].parent.rglob("*"))
    with pytest.raises(ConfigError, match="--output"):
        write_reports(pair)
    with pytest.raises(DataError, match="no such folder"):
        write_reports([*pair, pair[0] / "nowhere"], pair[0].parent / "page.html")
    assert sorted(path.name for path in pair[0].parent.rglob("*")) == before


def test_one_run_makes_its_own_page(pair):
    assert write_reports(pair[:1]).read_bytes() == write_report(pair[0]).read_bytes()
    assert (pair[0] / "report.html").is_file()


def test_example_rows_of_each_dataset_stand_there_once(pair):
    for folder in pair:
        write_mixture(folder)
    page = written(*pair)
    assert page.text.count("group by group") == len(MULTITASK)
    assert page.tags("img") == []


def test_repetition_in_a_run_is_pointed_out(pair):
    metrics = json.loads((pair[1] / "metrics.json").read_text())
    (pair[1] / "metrics.json").write_text(json.dumps(metrics | {"sizes": {"math": [1, 900, 900, 900]}}))
    drawn = sum(line["drawn"]["math"][0] for line in read_lines(pair[1]))
    assert f"second: Seen 4 times or more: math g1 ({drawn:.1f} ×)" in written(*pair).text


def test_the_command_takes_several_runs(hbo, pair, tmp_path):
    done = hbo("report", *pair, "--output", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'page.html'}\n"
    refused(hbo("report", *pair), "a page of several runs", "--output")
    refused(hbo("report", pair[0], pair[0], "--output", tmp_path / "page.html"), "is given twice")
    refused(hbo("report"), "RUN")


def test_each_run_that_measured_rewards_says_why_and_no_other(tmp_path):
    folders = [write_run(tmp_path / "first"), write_run(tmp_path / "second", seed=1)]
    folders.append(write_run(tmp_path / "static", static=True))
    html = write_reports(folders, tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count("<summary>Why</summary>") == 2
    assert html.count("moves towards its share of the rewards") == 2
