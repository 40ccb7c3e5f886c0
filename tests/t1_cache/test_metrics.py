"""Figures for Prometheus: names by its rules, values of statements, a page for loopback only."""

import http.client
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import dashboard
import msgspec
import pytest

from bitdustfs.errors import LocalError, UsageError
from bitdustfs.mount.statements import RebuildingLine, RemedyLine, RiskLine, Status, SupplierLine
from bitdustfs.supplier.orders import SupplierSelf
from bitdustfs.system import exporter, metrics
from bitdustfs.system.exporter import Exporter, check_loopback
from bitdustfs.system.judging import judged, worst
from bitdustfs.system.metrics import Polled, text_of
from bitdustfs.web.looking import risk_sentences

LIMIT = 60
MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
LINE = SupplierLine(
    position=2, node="ab" * 32, address="", state="online", uptime=None, gone="", latency=0.25,
    away=0.0, stored=7, full=False, audits=10, audits_failed=1, lacks=3, damaged=4, last_error="",
    owed=50,
)  # fmt: skip
RISK = RiskLine(
    at=1.0, chance=0.25, low=0.125, high=0.5, days=99.0, assumed=False, weakest=None, weak="",
    remedies=[RemedyLine(what="reserve", chance=0.125, said="with reserves: 1 in 8")],
    month_ago=None, said="chance that anything is lost within a year: 1 in 4",
)  # fmt: skip
STATUS = Status(
    vault="cd" * 32, state="published", message="", inodes=5, live=6, dirty=0, may_lose=2,
    thinnest="", rebuilding=RebuildingLine(), bench=[], visits=[], local_blocks=0, owed_blocks=1,
    suppliers=[LINE], warnings=[], judged="safe", risk=RISK,
)  # fmt: skip
SELF = SupplierSelf(
    node="ef" * 32, address="", state="serving", uptime=9.5, space=100, promised=50, used=20,
    trash=1, free=1000, customers=2, fragments=3, received=11, served=12, asked=None, network=4,
    warnings=["x"],
)  # fmt: skip
FULL = Polled({Path("/v"): STATUS, Path('/dead "one"'): None}, {Path("/shelf"): SELF})


@pytest.fixture
def text():
    pytest.importorskip("prometheus_client")
    return text_of(FULL).decode()


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({}, "ok"),
        ({"judged": "pending", "to_send": 9, "seconds_left": 5.0}, "ok"),
        ({"judged": "pending", "to_send": 9}, "warning"),
        ({"judged": "thin"}, "warning"),
        ({"warnings": ["supplier 3 is full"]}, "warning"),
        ({"judged": "unsafe"}, "wrong"),
        ({"judged": "unreadable"}, "wrong"),
        ({"may_lose": -1}, "wrong"),
        ({"message": "another machine took it over"}, "wrong"),
    ],
)
def test_what_somebody_has_to_do_something_about(more, verdict):
    assert judged(msgspec.structs.replace(STATUS, **more)) == verdict


def test_a_chance_that_was_not_reckoned_has_no_value_and_no_sentence():
    pytest.importorskip("prometheus_client")
    new = msgspec.structs.replace(STATUS, risk=None)
    assert b"loss_chance_ratio{" not in text_of(Polled({Path("/v"): new}, {}))
    assert risk_sentences(new) == []
    assert risk_sentences(STATUS) == [RISK.said, "with reserves: 1 in 8"]


def test_the_worst_of_all_mounts_counts():
    assert worst([]) == worst(["ok"]) == "ok" and worst(["ok", "warning"]) == "warning"
    assert worst(["wrong", "warning"]) == "wrong"


@pytest.mark.parametrize(
    "line",
    [
        'bitdust_mount_up{mountpoint="/v"} 1.0',
        'bitdust_mount_up{mountpoint="/dead \\"one\\""} 0.0',
        'bitdust_mount_safe{mountpoint="/v",vault="cdcdcdcdcdcdcdcd"} 1.0',
        'bitdust_mount_owed_bytes{mountpoint="/v",vault="cdcdcdcdcdcdcdcd"} 50.0',
        'bitdust_mount_loss_chance_ratio{mountpoint="/v",vault="cdcdcdcdcdcdcdcd"} 0.25',
        'bitdust_supplier_up{folder="/shelf"} 1.0',
        'bitdust_supplier_received_bytes_total{folder="/shelf"} 11.0',
        'bitdust_supplier_warnings{folder="/shelf"} 1.0',
    ],
)
def test_figures_are_those_of_the_statements(line, text):
    assert line in text.splitlines()


def test_what_is_not_known_has_no_value(text):
    values = [line for line in text.splitlines() if not line.startswith("#")]
    assert not [line for line in values if "uptime_ratio" in line or "reachable" in line]
    assert not [line for line in values if "dead" in line and "_up" not in line]
    assert 'position="2"' in next(line for line in values if "latency_seconds" in line)


def test_names_end_in_units_and_are_there_once():
    tables = (metrics.MOUNT, metrics.POSITION, metrics.SUPPLIER)
    names = [figure.name for table in tables for figure in table]
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", name) for name in names)
    assert not [name for name in names if name.endswith(("_total", "_mb", "_ms", "_percent"))]
    for table in tables:
        assert len({figure.name for figure in table}) == len(table)


def test_rules_and_dashboard_ask_only_for_what_there_is(text):
    there = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    for name in ("alerts.yml", "dashboard.json"):
        asked = set(re.findall(r"\bbitdust_\w+", (MONITORING / name).read_text()))
        assert asked and asked <= there, asked - there


def test_the_dashboard_is_that_of_its_table():
    assert dashboard.PAGE.read_text() == dashboard.page(), "run python tests/dashboard.py"
    made = json.loads(dashboard.page())
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in made["panels"])


def test_prometheus_takes_rules_and_figures(text):
    if not shutil.which("promtool"):
        pytest.skip("this machine has no promtool")
    subprocess.run(["promtool", "check", "rules", MONITORING / "alerts.yml"], check=True)
    subprocess.run(["promtool", "check", "metrics"], input=text, text=True, check=True)


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(metrics, "import_module", missing)
    with pytest.raises(UsageError, match="pip install 'bitdustfs"):
        text_of(FULL)


@pytest.mark.parametrize("listen", ["0.0.0.0:9478", "192.0.2.1:9478", "localhost:9478", "[::]:1"])
def test_figures_are_served_on_loopback_only(listen):
    with pytest.raises(UsageError, match="no loopback address"):
        check_loopback(listen)
    assert check_loopback("127.0.0.1:9478") == ("127.0.0.1", 9478)
    assert check_loopback("[::1]:9478") == ("::1", 9478)


class Served:
    def __init__(self):
        self.text = b"bitdust_x 1\n"
        self.exporter = Exporter("127.0.0.1:0", self.say)
        self.thread = threading.Thread(target=self.exporter.serve_forever, args=(0.01,))
        self.thread.start()

    def say(self):
        if self.text is None:
            raise LocalError("the home is gone")
        return self.text

    def ask(self, path="/metrics", host=None, verb="GET"):
        connection = http.client.HTTPConnection(*self.exporter.server_address, timeout=LIMIT)
        headers = {} if host is None else {"Host": host}
        connection.request(verb, path, headers=headers)
        answer = connection.getresponse()
        said = answer.status, answer.read()
        connection.close()
        return said


@pytest.fixture
def served():
    made = Served()
    yield made
    made.exporter.shutdown()
    made.thread.join(LIMIT)
    made.exporter.server_close()


def test_a_page_of_elsewhere_gets_nothing(served):
    assert served.ask() == (200, b"bitdust_x 1\n")
    assert served.ask(host="evil.example")[0] == 403
    assert served.ask(host=f"localhost:{served.exporter.server_address[1]}")[0] == 403
    assert served.ask("/")[0] == served.ask("/metrics/../etc")[0] == 404
    assert served.ask(verb="POST")[0] == 501
    served.text = None
    assert served.ask() == (500, b"the home is gone\n")
    with pytest.raises(LocalError, match="cannot listen at"):
        Exporter(served.exporter.named, served.say)
    assert exporter.PATH == "/metrics"
