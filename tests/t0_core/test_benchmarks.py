"""What `scripts/bench` makes of figures: medians, tables, pictures, files. It mounts nothing."""

import os
import threading
import time
from xml.etree import ElementTree

import pytest
from benchmarks import gauges, janitor, plot, table
from benchmarks.results import Cell, Results, load
from benchmarks.rows import ROWS, SCENES, select
from benchmarks.settings import Failed, Settings

FACTS = {"cores": 2, "processor": "<fast> & old", "caches_dropped": True, "own_network": True}
SETTINGS = {name: getattr(Settings(), name) for name in ("big", "files", "busy", "small", "idle")}


@pytest.fixture
def results():
    """Two systems and two rounds of `write`; `published` at two sizes."""
    made = Results({"bitdustfs": "bitdustfs", "floor": "floor (in memory)"}, FACTS, SETTINGS)
    for system, values in (("bitdustfs", (100, 300)), ("floor", (400, 400))):
        for value in values:
            made.add(Cell("write", system, 0), value)
    for size in (64, 1024):
        made.add(Cell("published", "bitdustfs", size), size / 10)
    return made


def test_every_row_belongs_to_a_scene_and_has_a_name_of_its_own():
    assert {row.scene for row in ROWS} == set(SCENES)
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_rows_are_chosen_by_name_scene_and_pattern():
    assert [row.name for row in select(["write", "far-random*"])] == [
        "write", "far-random", "far-random-stopped",
    ]  # fmt: skip
    assert {row.scene for row in select(["idle"])} == {"idle"}
    assert select([]) == ROWS
    with pytest.raises(Failed, match="wriet"):
        select(["wriet"])


def test_a_table_shows_medians_spreads_and_the_share_of_the_floor(results):
    line = next(line for line in table.render(results).splitlines() if "sequential" in line)
    assert "200 (100-300)" in line
    assert line.endswith("x 0.50")


def test_a_table_shows_earlier_results_beside(results):
    before = Results(results.systems, FACTS, SETTINGS)
    before.add(Cell("write", "bitdustfs", 0), 50)
    lines = table.render(results, before).splitlines()
    line = next(line for line in lines if "sequential" in line)
    assert line.split()[-3:] == ["50", "x", "4.00"]


def test_failures_and_what_is_missing_are_said(results):
    results.failures.append("far 1/3 bitdustfs: it took too long")
    results.missing.append("S3QL is not installed")
    said = table.render(results)
    assert "FAILED: far 1/3 bitdustfs: it took too long" in said
    assert "S3QL is not installed" in said


def test_results_come_back_from_their_file(results, tmp_path):
    results.save(tmp_path / "now.json")
    again = load(tmp_path / "now.json")
    assert (again.values, again.systems) == (results.values, results.systems)
    assert os.listdir(tmp_path) == ["now.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}'])
def test_a_file_that_holds_no_results_is_refused(text, tmp_path):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(Failed):
        load(tmp_path / "other.json")


def test_a_picture_has_bars_lines_and_nothing_unescaped(results):
    drawn = ElementTree.fromstring(plot.draw(results))
    tags = [element.tag.rpartition("}")[2] for element in drawn.iter()]
    assert tags.count("rect") == 3  # the ground, and a bar for each system
    assert tags.count("polyline") == 1
    assert "<fast> & old" in "".join(drawn.itertext())


@pytest.mark.parametrize("value", [0.0, 0.00004, 0.5, 99.96, 123456.0])
def test_any_figure_can_be_drawn(value):
    made = Results({"a": "a", "b": "b"}, FACTS, SETTINGS)
    for system in "ab":
        made.add(Cell("write", system, 0), value)
        made.add(Cell("published", system, 64), value)
        made.add(Cell("published", system, 1024), value)
    ElementTree.fromstring(plot.draw(made))


def test_wake_ups_of_threads_that_ended_stay_counted():
    ended = threading.Event()

    def sleeper():
        for _ in range(20):
            time.sleep(0.001)
        ended.wait(10)

    thread = threading.Thread(target=sleeper)
    counter = gauges.Wakeups([os.getpid()])
    thread.start()
    time.sleep(0.2)
    counter.look()
    ended.set()
    thread.join()
    counter.look()
    assert counter.counts[os.getpid()] >= 20


def test_only_a_folder_of_a_benchmark_is_cleared_away(tmp_path):
    (tmp_path / "kept").touch()
    assert janitor.clear(tmp_path)
    assert (tmp_path / "kept").exists()
    made = janitor.make_folder(tmp_path)
    (made / "file").touch()
    assert janitor.clear(made) == ""
    assert os.listdir(tmp_path) == ["kept"]
