"""The alerts' driver against a real Prometheus and Alertmanager, with the platform's own rules: what is told of an
alert, and that a silence keeps quiet what it names, as long as it says, and nothing else.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from compose.ports import free_ports
from compose.servers import alertmanager, prometheus
from compose.trades.processes import RULES
from gameday.drivers.prometheus import Alerts
from gameday.errors import DriverError
from gameday.model import ELSEWHERE, FIRING, INACTIVE
from gameday.system.polling import until
from gameday.telling.silence import Silence
from pipelines import pager
from tests.contract.conftest import serving
from tests.contract.sockets import END_SEEN_S

pytestmark = pytest.mark.skipif(
    not (prometheus.get(print) and alertmanager.get(print)), reason="Debian's prometheus can't be had here"
)

WITHIN_S = 60.0
BROKER, OFFLOAD = {"component": "broker"}, {"component": "offload-worker"}
NIGHT = "gameday_night_completed_timestamp_seconds"
WELL = {"broker_up": 1.0, "offload_failures": 0.0, NIGHT: time.time()}
TWO = '(vector(1) or label_replace(vector(1), "of", "two", "", ""))'
UNJUDGED = f"""
      - alert: Unjudged
        expr: {TWO} + on() {TWO}
"""
"""Many to many: a mistake that shows only when it is judged."""


class Platform:
    """Tells what the test says, has the alerts that it is due, and an inbox where they arrive."""

    def __init__(self, folder: Path, exporter: int, inbox: int) -> None:
        self.told = dict(WELL)
        self._file = folder / "alerts.jsonl"
        self._servers = [_exporter(exporter, self.told), pager.server("127.0.0.1", inbox, pager.Inbox(self._file))]
        for one in self._servers:
            threading.Thread(target=one.serve_forever, args=(END_SEEN_S,), daemon=True).start()

    def close(self) -> None:
        for one in self._servers:
            one.shutdown()
            one.server_close()

    def paged(self, since: int = 0) -> list[tuple[str, str, str]]:
        """(alert, component, status) of all that arrived, in order."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        pages = [json.loads(json.loads(line)["alert"]) for line in lines]
        found = [(a["labels"]["alertname"], a["labels"]["component"], a["status"]) for p in pages for a in p["alerts"]]
        return found[since:]

    def last(self, alert: str) -> str | None:
        """What was told of it last."""
        return next((status for name, _, status in reversed(self.paged()) if name == alert), None)


def _exporter(port: int, told: dict[str, float]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = "".join(f"{name} {value}\n" for name, value in told.items()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            return

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Platform, Alerts]]:
    """The platform's rules with every `for` a 240th as long: a broker that is down for a second fires."""
    folder = tmp_path_factory.mktemp("alerts")
    exporter, inbox, port, manager = free_ports(4)
    targets = [prometheus.Target("platform", "exporter", exporter), prometheus.Target("other", "other", inbox)]
    rules = prometheus.quickened(RULES.read_text() + UNJUDGED, 240)
    platform = Platform(folder, exporter, inbox)
    try:
        with (
            serving(alertmanager.process(folder / "alertmanager", manager, f"http://127.0.0.1:{inbox}/alerts")),
            serving(prometheus.process(folder / "prometheus", port, targets, rules, manager)),
        ):
            yield platform, Alerts(f"http://127.0.0.1:{port}", 2.0, f"http://127.0.0.1:{manager}")
    finally:
        platform.close()


@pytest.fixture
def well(running: tuple[Platform, Alerts]) -> Iterator[tuple[Platform, Alerts]]:
    """Nothing fires at the test's beginning, nor after its end, and nobody believes that it does: Alertmanager tells
    nobody of what it has told of already."""
    platform, alerts = running
    quiet(platform, alerts)
    yield running
    quiet(platform, alerts)


def quiet(platform: Platform, alerts: Alerts) -> None:
    platform.told.update(WELL)
    for name, labels in (("BrokerDown", BROKER), ("OffloadFailing", OFFLOAD)):
        become(alerts, INACTIVE, name, labels)
        until(lambda name=name: platform.last(name) != "firing", WITHIN_S, what="the page's end")  # type: ignore[misc]


def become(alerts: Alerts, state: float, name: str = "BrokerDown", labels: dict[str, str] = BROKER) -> None:
    """Until the alert is in that state; a Prometheus that has just begun has judged nothing yet."""

    def there() -> bool:
        try:
            return alerts.state(name, labels)[""] == state
        except DriverError:
            return False

    until(there, WITHIN_S, every_s=0.1, what=f"{name} to be {state}")


@contextmanager
def told(platform: Platform, **values: float) -> Iterator[None]:
    was = dict(platform.told)
    platform.told.update(values)
    try:
        yield
    finally:
        platform.told.update(was)


def test_an_alert_is_told_as_it_fires_and_as_it_ends(well: tuple[Platform, Alerts]) -> None:
    """Of that name and that component alone, and judged anew all the time."""
    platform, alerts = well
    before = alerts.state("BrokerDown", BROKER)[".evaluated"]
    with told(platform, broker_up=0.0):
        become(alerts, FIRING)
        assert alerts.state("BrokerDown", {"component": "clickhouse"})[""] == INACTIVE
        assert alerts.state("OffloadFailing", OFFLOAD)[""] == INACTIVE
        assert [name for name, labels in alerts.firing() if BROKER.items() <= labels.items()] == ["BrokerDown"]
    become(alerts, INACTIVE)
    assert alerts.state("BrokerDown", BROKER)[".evaluated"] > before


def test_an_alert_under_other_labels_is_told_beside_the_state_of_those_that_were_asked_for(
    well: tuple[Platform, Alerts],
) -> None:
    """Whoever asks under a wrong label sees that it is active elsewhere, as long as it is."""
    platform, alerts = well
    mistaken = {"component": "redpanda"}
    elsewhere = f"{ELSEWHERE}component=broker"
    assert set(alerts.state("BrokerDown", mistaken)) == {"", ".evaluated"}
    with told(platform, broker_up=0.0):
        become(alerts, FIRING)
        seen = alerts.state("BrokerDown", mistaken)
        assert (seen[""], seen[elsewhere]) == (INACTIVE, FIRING)
        assert elsewhere not in alerts.state("BrokerDown", BROKER)
    become(alerts, INACTIVE)
    assert elsewhere not in alerts.state("BrokerDown", mistaken)


def test_labels_that_a_rule_sets_otherwise_are_found_before_it_fires(well: tuple[Platform, Alerts]) -> None:
    """Only what the rule itself sets can be compared: the others come with its metric."""
    _, alerts = well
    assert alerts.unlike("BrokerDown", BROKER) is None
    assert alerts.unlike("BrokerDown", {"component": "redpanda"}) == "its rule says component=broker"
    assert alerts.unlike("ClickHouseDown", {"component": "any"}) is None
    assert alerts.unlike("ConsumerBehind", {"component": "any"}) is None  # a template


def test_a_rule_that_says_nothing_is_not_taken_for_a_silent_alert(well: tuple[Platform, Alerts]) -> None:
    """One that is not there, and one that can't be judged, are errors that say what to do, or why."""
    _, alerts = well
    with pytest.raises(DriverError, match=r"no alerting rule 'BrokerDwn'\. Remedy.*alerts.names"):
        alerts.state("BrokerDwn", BROKER)
    with pytest.raises(DriverError, match=r"can't judge Unjudged: .*many-to-many"):
        alerts.state("Unjudged", {})


def test_what_fires_pages_and_so_does_its_end(well: tuple[Platform, Alerts]) -> None:
    """The way from the rule to the inbox, without which the silences below would prove nothing."""
    platform, _ = well
    known = len(platform.paged())
    with told(platform, broker_up=0.0):
        page = ("BrokerDown", "broker", "firing")
        until(lambda: page in platform.paged(known), WITHIN_S, every_s=0.1, what="the page")
    end = ("BrokerDown", "broker", "resolved")
    until(lambda: end in platform.paged(known), WITHIN_S, every_s=0.1, what="the page's end")


def test_a_night_that_is_overdue_pages_until_one_is_completed(well: tuple[Platform, Alerts]) -> None:
    """The rule outside gameday: nobody else tells of a night that did not come."""
    platform, _ = well
    known = len(platform.paged())
    with told(platform, **{NIGHT: time.time() - 26.1 * 3600}):
        page = ("NightOverdue", "gameday", "firing")
        until(lambda: page in platform.paged(known), WITHIN_S, every_s=0.1, what="the page")
    end = ("NightOverdue", "gameday", "resolved")
    until(lambda: end in platform.paged(known), WITHIN_S, every_s=0.1, what="the page's end")


def test_a_silence_keeps_quiet_what_it_names_and_nothing_else(well: tuple[Platform, Alerts]) -> None:
    """The alert is seen to fire all the same, another one pages, and so does this one once the silence is ended."""
    platform, alerts = well
    known = len(platform.paged())
    silence = alerts.silence("BrokerDown", BROKER, 60.0, None, "a test")
    assert silence is not None
    with told(platform, broker_up=0.0):
        become(alerts, FIRING)
        with told(platform, offload_failures=1.0):
            other = ("OffloadFailing", "offload-worker", "firing")
            until(lambda: other in platform.paged(known), WITHIN_S, every_s=0.1, what="the other page")
            assert [page for page in platform.paged(known) if page[0] == "BrokerDown"] == []
            alerts.unsilence(silence)
        page = ("BrokerDown", "broker", "firing")
        until(lambda: page in platform.paged(known), WITHIN_S, every_s=0.1, what="the page after the silence")
    alerts.unsilence(silence)


def test_a_silence_of_another_component_keeps_nothing_quiet(well: tuple[Platform, Alerts]) -> None:
    """The labels count, not the alert's name alone."""
    platform, alerts = well
    known = len(platform.paged())
    silence = alerts.silence("BrokerDown", {"component": "clickhouse"}, 60.0, None, "a test")
    with told(platform, broker_up=0.0):
        page = ("BrokerDown", "broker", "firing")
        until(lambda: page in platform.paged(known), WITHIN_S, every_s=0.1, what="the page")
    assert silence is not None
    alerts.unsilence(silence)


def test_a_silence_is_prolonged_under_its_id_and_lapses_by_itself(well: tuple[Platform, Alerts]) -> None:
    """Whatever becomes of who made it: then what is still broken pages."""
    platform, alerts = well
    known = len(platform.paged())
    silence = Silence(alerts, "BrokerDown", BROKER, "a test", lasts_s=6.0)
    first = silence.id
    with told(platform, broker_up=0.0):
        become(alerts, FIRING)
        assert first is not None
        assert alerts.silence("BrokerDown", BROKER, 3.0, first, "a test") == first
        assert [page for page in platform.paged(known) if page[2] == "firing"] == []
        silence.lapse()
        page = ("BrokerDown", "broker", "firing")
        until(lambda: page in platform.paged(known), WITHIN_S, every_s=0.1, what="the page")


def test_a_killed_alertmanager_has_the_silence_again_within_a_second(tmp_path: Path) -> None:
    """It has forgotten all silences when it comes back; for how long ours was absent is told."""
    (port,) = free_ports(1)
    service = alertmanager.process(tmp_path / "alertmanager", port, "http://127.0.0.1:1/alerts")
    alerts = Alerts("http://127.0.0.1:1", 2.0, f"http://127.0.0.1:{port}")
    with serving(service) as running:
        silence = Silence(alerts, "BrokerDown", BROKER, "a test")
        first = silence.id
        until(lambda: alerts.silenced(str(first)), WITHIN_S, what="the silence")
        running.kill()
        running.wait()
    with serving(service):
        until(lambda: silence.id != first and alerts.silenced(str(silence.id)), 1.0, what="the silence to be made anew")
        until(lambda: not silence._lost, WITHIN_S, what="it to be seen")
        assert 0.0 < silence.absent_s < WITHIN_S
        silence.end()
        assert not alerts.silenced(str(silence.id))


def test_ending_a_silence_that_nobody_knows_is_fine(well: tuple[Platform, Alerts]) -> None:
    """An Alertmanager may have lost it."""
    well[1].unsilence("00000000-0000-0000-0000-000000000000")


def test_without_alertmanager_nothing_is_silenced() -> None:
    """The user's routes are told of a test's alerts then."""
    assert Alerts("http://127.0.0.1:1", 1.0).silence("BrokerDown", BROKER, 60.0, None, "a test") is None


def test_a_prometheus_that_does_not_answer_is_an_error() -> None:
    """Never a silent alert."""
    with pytest.raises(DriverError, match="refused") as caught:
        Alerts("http://127.0.0.1:1", 1.0).state("BrokerDown", BROKER)
    assert caught.value.definite
