"""The page of a run: complete, escaped, the same every time, and without torch."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hil_lab.recipe import Recipe, build
from hil_lab.report import write_report
from hil_lab.report.facts import read_facts
from hil_lab.report.numbers import times, wilson
from hil_lab.report.page import render
from hil_lab.report.svg import Axis, ErrorAxis
from hil_lab.report.tables import recipe_lines
from tests.hil_lab.report_run import Fake, write_run

GOLDEN = Path(__file__).parents[1] / "golden" / "report.html"
VOID = {"meta", "br", "img", "input", "link", "hr"}


class Checker(HTMLParser):
    """Collects tags, and fails on one that is closed in the wrong place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parse(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def page_of(tmp_path: Path, fake: Fake | None = None) -> str:
    return write_report(write_run(tmp_path, fake)).read_text()


def normalised(page: str) -> str:
    """Leave out what is a file of its own: style and script."""
    return re.sub(r"<(style|script)>.*?</\1>", r"<\1></\1>", page, flags=re.DOTALL)


def test_page_is_the_golden_one(tmp_path: Path, update_golden: bool) -> None:
    page = normalised(page_of(tmp_path))
    if update_golden:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(page)
    assert page == GOLDEN.read_text(), "pytest tests/hil_lab --update-golden, where this is meant"


def test_page_needs_nothing_else(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    for tag, attributes in parse(page).seen:
        assert tag not in ("link", "img", "iframe")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert "http" not in page
    assert "@import" not in page


def test_same_run_gives_same_page(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    assert write_report(run).read_text() == write_report(run).read_text()


def test_links_within_the_page_lead_somewhere(tmp_path: Path) -> None:
    seen = parse(page_of(tmp_path, Fake(targets=(0.3, 0.5)))).seen
    ids = {attributes.get("id") for _, attributes in seen}
    links = [a["href"] for tag, a in seen if tag == "a"]
    assert links
    assert all(link and link[1:] in ids for link in links)


def test_verdict_names_ratio_and_loss(tmp_path: Path) -> None:
    page = html.unescape(page_of(tmp_path))
    assert f"{times(0.505)} the latency of optimised fp32 at 1.0 points lost" in page
    assert "the two 95 % intervals overlap" in page
    assert "+1.0 % off the target: within 5 % of it" in page


def test_missed_target_is_said_in_the_verdict(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    result = run.read("result.json")
    result["rows"][2]["evaluation"]["latency_ms"]["value"] = 1.4
    run.write("result.json", result)
    page = html.unescape(write_report(run).read_text())
    assert f"at 1.0 points lost: target {times(0.5)} missed" in page
    assert "not within 5 % of it" in page


def test_targets_in_bytes_are_shown_in_bytes(tmp_path: Path) -> None:
    page = page_of(tmp_path, Fake(cost="size"))
    assert "the size of optimised fp32" in page
    assert "size, of the fp32 reference" in page
    assert "kB = 0.5" in page


def test_every_number_has_its_origin(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    page, facts = write_report(run).read_text(), read_facts(run)
    assert len(facts.programs) == 3
    for program in facts.programs:
        (name,) = program.evaluation.measurements
        assert name in page
        assert program.evaluation.artifact in page
        assert facts.measurements[name].fingerprint_digest in page
    assert "report, version 2" in page


def test_unfinished_run_says_so_and_how_to_go_on(tmp_path: Path) -> None:
    page = page_of(tmp_path, Fake(done=3, finished=False))
    parse(page)
    assert "Unfinished." in page
    assert "hil-lab resume runs/2026-01-01-tiny-0001" in page
    assert "3 of 8 episodes" in page
    assert "The best policy so far" in page
    assert "hil-lab export" not in page


def test_run_before_its_first_episode(tmp_path: Path) -> None:
    run = write_run(tmp_path, Fake(done=0, finished=False))
    for name in ("sensitivity.json", "reference.json", "events.jsonl", "reference/manifest.json"):
        run.path(name).unlink()
    page = write_report(run).read_text()
    parse(page)
    assert "nothing evaluated yet" in page


def test_report_of_a_run_without_its_store_makes_none(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    for file in run.folder.parent.glob("store.db*"):
        file.unlink()
    page = write_report(run).read_text()
    assert "not in this folder&#39;s store" in page
    assert not (run.folder.parent / "store.db").exists()


def test_programs_finished_so_far_are_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    run.path("result.json").unlink()
    run.path("final", "at-0.5", "finalist.json").unlink()
    facts = read_facts(run)
    assert [p.name for p in facts.programs] == ["fp32", "uniform-int8"]
    assert "Unfinished." in write_report(run).read_text()


def test_each_target_has_its_section(tmp_path: Path) -> None:
    page = page_of(tmp_path, Fake(targets=(0.3, 0.5)))
    parse(page)
    assert page.count('class="search"') == 2
    assert f"yours, target {times(0.3)}" in page
    assert f"yours, target {times(0.5)}" in page


def test_failed_verification_is_said_at_the_top(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    result = run.read("result.json")
    result["rows"][2]["verify"]["local"]["complaints"] = ["stem differs in 3 of 128 integers"]
    run.write("result.json", result)
    page = write_report(run).read_text()
    assert "Verification failed: stem differs in 3 of 128 integers." in page


def test_suspect_latency_is_said_at_the_top(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    result = run.read("result.json")
    result["rows"][2]["evaluation"]["verdict"] = "suspect"
    run.write("result.json", result)
    assert "The latency is suspect" in write_report(run).read_text()


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = "</title><script>alert(1)</script>\"'<b>"
    page = page_of(tmp_path, Fake(model=evil, board=evil))
    parse(page)
    assert "alert(1)" in page
    assert "<script>alert" not in page


def test_recipe_on_the_page_is_a_recipe(tmp_path: Path) -> None:
    recipe = read_facts(write_run(tmp_path)).recipe
    text = "\n".join(line for line, _ in recipe_lines(recipe))
    assert build(Recipe, tomllib.loads(text)) == recipe


def test_report_imports_neither_torch_nor_tvm(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    code = (
        "import sys; from pathlib import Path; from hil_lab.report import write_report; "
        "from hil_lab.runs import open_run; write_report(open_run(Path(sys.argv[1]))); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'tvm', 'torchvision', 'optuna')))"
    )
    subprocess.run([sys.executable, "-c", code, run.folder], check=True)


@pytest.mark.parametrize(
    ("share", "samples", "low", "high"),
    [(0.5, 100, 0.4038, 0.5962), (1.0, 20, 0.8389, 1.0), (0.0, 20, 0.0, 0.1611)],
)
def test_interval_of_a_share_is_wilsons(
    share: float, samples: int, low: float, high: float
) -> None:
    assert wilson(share, samples) == pytest.approx((low, high), abs=1e-4)


def test_ticks_are_round_and_inside() -> None:
    ticks = list(Axis(0.0, 1.27, 0, 100).ticks(6))
    assert ticks == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2])
    assert list(Axis(1, 25, 0, 100).ticks(6)) == [5, 10, 15, 20, 25]


def test_a_perfect_accuracy_stays_on_the_page() -> None:
    axis = ErrorAxis.over([0.9, 1.0], 100, 400.0, 0.0)
    assert 0.0 < axis(1.0) < axis(0.9) < 400.0


def test_episodes_that_were_counted_in_part_are_counted(tmp_path: Path) -> None:
    facts = read_facts(write_run(tmp_path))
    first, *others = facts.searches[0].episodes
    part = replace(first, evaluation=replace(first.evaluation, samples=32))
    searches = (replace(facts.searches[0], episodes=(part, *others)),)
    assert "(1 hopeless, counted in part)" in render(replace(facts, searches=searches))
    assert "counted in part" not in render(facts)


def test_accuracies_that_are_no_counts_say_so(tmp_path: Path) -> None:
    facts = read_facts(write_run(tmp_path))
    episodes = facts.searches[0].episodes
    told = [
        replace(e, evaluation=replace(e.evaluation, accuracy_source="expected")) for e in episodes
    ]
    searches = (replace(facts.searches[0], episodes=tuple(told)),)
    assert "expected of 200 validation images" in render(replace(facts, searches=searches))
    assert "expected of 200" not in render(facts)


def cells(page: str, section: str) -> list[list[str]]:
    """Return the rows of the table of a section, heads included."""
    (part,) = re.findall(rf'<section id="{section}">.*?</section>', page, re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)
    return [[html.unescape(c) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", r)] for r in rows]


def test_forecasts_are_shown_beside_their_truths(tmp_path: Path) -> None:
    page = page_of(tmp_path, Fake(targets=(0.3, 0.5)))
    head, first, second = cells(page, "foresight")
    assert head[1:5] == ["accuracies", "mean error", "rank", "within 90 %"]
    assert first == [f"target {times(0.3)}", "6", "1.00 %", "1.00", "100 %", "6", "0.20 %", "0 %"]
    assert second[0] == f"target {times(0.5)}"


def test_a_front_is_foreseen_once_for_all_targets(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    run.write("at-front/surrogate.json", run.read("at-0.5/surrogate.json"))
    run.path("at-0.5", "surrogate.json").unlink()
    assert [row[0] for row in cells(write_report(run).read_text(), "foresight")] == [
        "",
        "all targets",
    ]


def test_what_foretold_nothing_has_no_table(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    run.path("at-0.5", "surrogate.json").unlink()
    page = write_report(run).read_text()
    parse(page)
    assert "foresight" not in page


def test_one_board_needs_no_table(tmp_path: Path) -> None:
    assert 'id="boards"' not in page_of(tmp_path)


def test_of_several_boards_it_is_said_who_measured_what(tmp_path: Path) -> None:
    run = write_run(tmp_path, Fake(others=("sim:rpi4-2", "sim:rpi4-3")))
    run.event("board dropped", why="sim:rpi4-3: no answer")
    page = write_report(run).read_text()
    parse(page)
    head, *rows = cells(page, "boards")
    assert head == ["", "evaluations", "fp32", "uniform int8", f"yours, target {times(0.5)}"]
    assert rows == [
        ["sim:rpi4", "3", "2.000 ms", "1.200 ms", "1.010 ms"],
        ["sim:rpi4-2", "3", "", "", ""],
        ["sim:rpi4-3", "2", "", "", ""],
    ]
    assert "A board was dropped: sim:rpi4-3: no answer" in page


def test_every_board_of_a_fleet_is_shown_with_its_own_latency(tmp_path: Path) -> None:
    page = page_of(tmp_path, Fake(others=("sim:rpi4-2",), fleet="median"))
    _, *rows = cells(page, "boards")
    assert [row[2:] for row in rows] == [
        ["2.000 ms", "1.200 ms", "1.010 ms"],
        ["2.020 ms", "1.212 ms", "1.020 ms"],
    ]
    assert "the median of all" in page
    assert "<dt>on sim:rpi4-2</dt><dd>2.020 ms</dd>" in page
