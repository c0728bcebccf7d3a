import json
import struct
import sys
import xml.etree.ElementTree as ET

import pytest
from commands import refused
from example_runs import read_lines, write_run


@pytest.fixture
def write_figures():
    pytest.importorskip("matplotlib")
    from hbo.report.paper_figures import write_figures

    return write_figures


def words(svg):
    return ["".join(text.itertext()).strip() for text in ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture
def small(tmp_path):
    return write_run(tmp_path / "small" / "run", {"math": 100, "chat": 300}, groups=3, updates=2)


def test_each_figure_is_a_png_for_print_and_an_svg_whose_text_is_text(write_figures, small, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn, plot = [], Axes.plot

    def watched(self, x, y, *args, **options):
        drawn.append((list(x), list(y)))
        return plot(self, x, y, *args, **options)

    monkeypatch.setattr(Axes, "plot", watched)
    files = write_figures([small], tmp_path / "new" / "figures")
    assert [file.name for file in files] == [
        f"{kind}-probabilities.{end}" for kind in ("global", "local") for end in ("png", "svg")
    ]
    for png in files[::2]:
        head = png.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", head[16:24])[0] >= 1000
    assert {"math", "chat", "sampling probability", "optimizer step"} <= set(words(files[1]))
    assert {"math", "chat", "g1 (easiest)", "g2", "g3 (hardest)"} <= set(words(files[3]))
    lines = read_lines(small)
    steps = [line["step"] for line in lines]
    assert drawn[1] == (steps, [line["global"]["chat"] for line in lines])
    assert drawn[2 + 2] == (steps, [line["local"]["math"][2] for line in lines])


def test_markers_stand_at_updates_and_not_at_the_end(write_figures, small, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    file = small / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"steps": 1000}))
    seen, plot = [], Axes.plot

    def watched(self, x, y, *args, **options):
        seen.append(([x[i] for i in options["markevery"]], x[-1]))
        return plot(self, x, y, *args, **options)

    monkeypatch.setattr(Axes, "plot", watched)
    write_figures([small], tmp_path / "figures")
    assert seen == [([line["step"] for line in read_lines(small)], 1000)] * len(seen) != []


@pytest.mark.slow
def test_several_runs_share_the_global_figure_and_have_a_local_one_each(write_figures, small, tmp_path):
    static = write_run(
        tmp_path / "static", {"chat": 300, "_$x^2$": 9, "\x00\ud800 👩": 9}, groups=1, static=True, updates=0
    )
    other = write_run(tmp_path / "b" / "run", {"math": 100}, groups=1, updates=1)
    files = write_figures([small, other, static], tmp_path / "figures")
    assert [file.name for file in files[1::2]] == [
        "global-probabilities.svg",
        "local-probabilities-small-run.svg",
        "local-probabilities-b-run.svg",
        "local-probabilities-static.svg",
    ]
    found = words(files[1])
    assert {"small/run", "b/run", "static", "_$x^2$"} <= set(found)
    assert found.count("math") == found.count("chat") == 1


def test_a_missing_library_is_one_sentence_and_nothing_is_written(hbo, run_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = hbo("report", run_folder, "--figures", tmp_path / "figures")
    refused(done, "--figures needs matplotlib", "pip install 'hbo[figures]'")
    assert not (tmp_path / "figures").exists()
    assert not (run_folder / "report.html").exists()


@pytest.mark.slow
def test_the_command_writes_figures_beside_the_page_and_without_one(hbo, write_figures, small, tmp_path):
    other = write_run(tmp_path / "other", {"math": 100}, groups=1, updates=1)
    done = hbo("report", small, other, "--figures", tmp_path / "figures")
    assert done.returncode == 0, done.stderr
    assert [line.rpartition("/")[2] for line in done.stdout.splitlines()][::2] == [
        "global-probabilities.png",
        "local-probabilities-run.png",
        "local-probabilities-other.png",
    ]
    before = (tmp_path / "figures" / "global-probabilities.svg").read_bytes()
    assert write_figures([small, other], tmp_path / "figures")[1].read_bytes() == before
    (tmp_path / "file").write_text("")
    refused(hbo("report", other, "--figures", tmp_path / "file"), "the figure can't be written", "another --figures")
