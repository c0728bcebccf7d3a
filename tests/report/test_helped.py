"""What a page says about whether training helped."""

import json

import pytest
from example_runs import write_json, write_mixture
from test_page import Page

from hbo.folder.run import read_run
from hbo.report.helped import helped
from hbo.report.page import write_report


def told(folder, **measured):
    metrics = json.loads((folder / "metrics.json").read_text())
    write_json(folder / "metrics.json", metrics | measured)
    return " ".join(helped(read_run(folder)))


def losses(**nll):
    return {name: {"nll": value, "perplexity": 1.0, "n": 9} for name, value in nll.items()}


def right(**counts):
    return {name: {"accuracy": count / rows, "n": rows} for name, (count, rows) in counts.items()}


def test_answers_that_were_lost_stand_beside_losses_that_fell(run_folder):
    before, after = right(medical=(6, 22), math=(3, 22)), right(medical=(3, 22), math=(16, 22))
    said = told(run_folder, accuracy_before=before, accuracy=after)
    assert "lower in all 4 datasets" in said
    assert "medical 6 → 3 of 22 (within chance)" in said
    assert "math 3 → 16 of 22 (more than chance)" in said
    assert "together 9 → 19 of 44" in said
    page = Page(write_report(run_folder).read_text(encoding="utf-8"))
    assert "▼ 3 fewer within chance" in page.text
    assert "▲ 13 more" in page.text


def test_a_change_that_would_be_written_as_nought_is_unchanged(run_folder):
    before, after = losses(math=2.0, chat=1.0), losses(math=2.0005, chat=1.0)
    said = told(run_folder, eval=after, eval_before=before, macro_nll=1.50025)
    assert said == "The held-out loss is unchanged in both datasets; on average unchanged at 1.50."
    text = Page(write_report(run_folder).read_text(encoding="utf-8")).text
    assert "= unchanged" in text and "0.0%" not in text.split("Right answers")[0].split("Before and after")[1][:600]


def test_the_first_screen_has_the_command_that_tells_whether_balancing_helped(run_folder):
    page = Page(write_report(run_folder).read_text(encoding="utf-8"))
    assert "Did it help?" in page.text.split("What happened")[0]
    wanted = f"hbo compare {run_folder}/config.yaml --methods hbo,proportional,uniform --seeds 0,1,2"
    assert wanted in page.text.split("What happened")[0]


def test_before_and_after_are_drawn_and_come_second(run_folder):
    html = write_report(run_folder).read_text(encoding="utf-8")
    assert html.index('id="held-out"') < html.index('id="global-p"')
    assert html.split('id="global-p"')[0].count('class="open"') >= 4


@pytest.fixture
def own_script(run_folder):
    """What a trainer of one's own with the callback leaves."""
    for name in ("metrics.json", "config.yaml", "trainer_state.json"):
        (run_folder / name).unlink()
    settings = {"model": "Qwen/Qwen2.5-0.5B", "seed": 7, "mixture": {"temperature": 1.0}}
    settings["balance"] = {"method": "hbo", "global_reward": "gradient_norm", "local_reward": "perplexity_ratio"}
    status = {
        "phase": "training", "done": 120, "total": 120, "first": 0, "began": 1.0, "updated": 2.0, "trains": True,
        "pid": 1, "born": 0, "host": "elsewhere", "end": "finished", "message": "", "settings": settings,
    }  # fmt: skip
    write_json(run_folder / "status.json", status)
    return run_folder


def test_a_script_of_ones_own_ends_with_a_page_that_knows_it(own_script):
    text = Page(write_report(own_script).read_text(encoding="utf-8")).text
    assert "Methodhbo" in text.replace(" ", "") and "Qwen/Qwen2.5-0.5B" in text and "Seed7" in text.replace(" ", "")
    assert "Unfinished" not in text and "unknown" not in text
    assert "Held-out loss wasn't measured" in text and "eval_dataset=" in text
    assert 'METHODS["proportional"]' in text
    assert "the gradient norm" in text


@pytest.mark.parametrize(("end", "word"), [("failed", "Failed at step 120 of 200: no memory."), (None, "Unfinished:")])
def test_a_script_that_did_not_end_well_says_how(own_script, end, word):
    status = json.loads((own_script / "status.json").read_text())
    write_json(own_script / "status.json", status | {"end": end, "message": "no memory", "total": 200})
    assert word in Page(write_report(own_script).read_text(encoding="utf-8")).text


def test_answers_of_very_different_lengths_are_pointed_out_for_gradient_norms_only(run_folder):
    write_mixture(run_folder)
    held = json.loads((run_folder / "mixture.json").read_text())
    held["datasets"]["math"]["answer_tokens"], held["datasets"]["general"]["answer_tokens"] = 200.0, 20.0
    write_json(run_folder / "mixture.json", held)

    def shown():
        return Page(write_report(run_folder).read_text(encoding="utf-8")).text

    assert "Lengths differ" not in shown()  # the example names no reward
    config = (run_folder / "config.yaml").read_text()
    (run_folder / "config.yaml").write_text(config + "  global_reward: gradient_norm\n")
    assert "Answers of math are 10 times as long as those of general (200 tokens on average against 20)" in shown()
    assert "token_gradient_norm" in shown()
    held["datasets"]["math"]["answer_tokens"] = 40.0
    write_json(run_folder / "mixture.json", held)
    assert "Lengths differ" not in shown()
