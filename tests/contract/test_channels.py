"""Channels and the courier, against a local server that behaves as Slack and PagerDuty do, and misbehaves as they do.

Bounds are made small here; what holds of them is the same.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gameday.errors import ConfigError, GamedayError
from gameday.model import Message, Verdict
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.telling import courier
from gameday.telling.courier import Courier, parcels, undelivered
from tests.contract.chat import Behaviour, Chat, error, hanging, status
from tests.contract.sockets import dripping, nobody
from tests.fakes import write_config

TOKEN = "xoxb-this-must-be-nowhere"
WITHIN_S = 3.0
SLACK_S = 1.5
"""What a busy machine may add to a bound."""

NOW_US = time.time_ns() // 1_000
HOUR_US = 3_600_000_000

SLACK = """
[channels.ops]
driver = "slack"
token = "{token}"
channel = "C0123"
base_url = "{url}/api"
"""
PAGERDUTY = """
[channels.pager]
driver = "pagerduty"
routing_key = "{token}"
base_url = "{url}"
"""
WEBHOOK = """
[channels.hook]
driver = "webhook"
url = "{url}/hook/{token}"
headers = {{ Authorization = "Bearer {token}" }}
"""
PAIRS = {
    "slack": (SLACK, "ops", "fail"),
    "pagerduty": (PAGERDUTY, "pager", "trigger"),
    "webhook": (WEBHOOK, "hook", "fail"),
}


def message(kind: str = "fail", id_: str = "20260101T020000-n-fail", **more: Any) -> Message:
    made = Message(
        id_, kind, "20260101T020000-n", "trades", "gameday/trades/broker_restart/how=sigkill", NOW_US, NOW_US + HOUR_US,
        Verdict.FAIL, "FAIL: broker_restart(how=sigkill) on trades", "silver lost 3", (("MTTR", "8 s of 120 s"),),
        (("Report", "https://reports.example/n/report.html"),), {"test": "broker_restart", "lost": 3},
    )  # fmt: skip
    return replace(made, **more)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same courier with less patience; and no proxy between it and loopback."""
    monkeypatch.setattr(courier, "ATTEMPT_S", 1.0)
    monkeypatch.setattr(courier, "BACKOFF_S", 0.02)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def chat() -> Iterator[Chat]:
    with Chat(TOKEN) as serving:
        yield serving


def stack_with(folder: Path, text: str) -> Stack:
    path = write_config(folder)
    path.write_text(path.read_text() + text)
    return open_stack(path, State(folder))


def no_block(name: str) -> str:
    raise ConfigError(f"no block {name}")


@pytest.fixture(params=PAIRS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each driver."""
    return str(request.param)


@pytest.fixture
def told(kind: str, tmp_path: Path, chat: Chat) -> tuple[Courier, Message]:
    """A courier with one channel of this kind, and a message that it takes."""
    text, _, takes = PAIRS[kind]
    stack = stack_with(tmp_path, text.format(url=chat.url, token=TOKEN))
    return Courier(stack, no_block), message(takes)


def state_of(folder: Path) -> list[str]:
    return ["sent" if p.sent else "dropped" if p.dropped else "pending" for p in parcels(State(folder))]


def test_a_message_is_taken_once_and_noted(told: tuple[Courier, Message], chat: Chat, tmp_path: Path) -> None:
    """Posting it again, and delivering again, tells nobody twice."""
    carrier, first = told
    for _ in range(2):
        carrier.post(first)
        assert carrier.deliver(WITHIN_S) == []
    assert len(chat.taken) == 1
    assert state_of(tmp_path) == ["sent"]


@pytest.mark.parametrize(
    ("trouble", "requests"),
    [([status(500)], 2), ([status(503), status(502)], 3), ([status(429, Retry_After="1")], 2)],
    ids=["500", "503 then 502", "429"],
)
def test_what_passes_is_waited_for(
    told: tuple[Courier, Message], chat: Chat, tmp_path: Path, trouble: list[Behaviour], requests: int
) -> None:
    """A server in trouble is asked again, within the bound, and as late as it says."""
    carrier, first = told
    chat.next += trouble
    carrier.post(first)
    assert carrier.deliver(WITHIN_S) == []
    assert len(chat.asked) == requests
    assert len(chat.taken) == 1
    assert state_of(tmp_path) == ["sent"]


def test_retry_after_is_kept(told: tuple[Courier, Message], chat: Chat) -> None:
    """Not a moment earlier."""
    carrier, first = told
    chat.next.append(status(429, Retry_After="1"))
    carrier.post(first)
    carrier.deliver(WITHIN_S)
    (refused, *_), (taken, *_) = chat.asked
    assert taken - refused >= 1.0


def test_a_retry_after_beyond_the_bound_is_kept_by_the_next_run(
    told: tuple[Courier, Message], chat: Chat, tmp_path: Path
) -> None:
    """The run goes on at once; who comes before the time doesn't ask."""
    carrier, first = told
    chat.next.append(status(429, Retry_After="60"))
    carrier.post(first)
    began = time.monotonic()
    (line,) = carrier.deliver(WITHIN_S)
    assert time.monotonic() - began < WITHIN_S
    assert "1 message not delivered, and tried again at the next run" in line
    carrier.deliver(WITHIN_S)
    assert len(chat.asked) == 1
    assert state_of(tmp_path) == ["pending"]


def test_a_server_that_hangs_delays_nobody_beyond_the_bound(
    told: tuple[Courier, Message], chat: Chat, tmp_path: Path
) -> None:
    """It is recorded, said, and tried again by the next run, which then delivers it."""
    carrier, first = told
    chat.always = hanging(chat.over)
    carrier.post(first)
    began = time.monotonic()
    (line,) = carrier.deliver(WITHIN_S)
    assert time.monotonic() - began < WITHIN_S + SLACK_S
    assert "timed out" in line.lower() or "no whole answer" in line
    assert state_of(tmp_path) == ["pending"]
    chat.always = None
    assert carrier.deliver(WITHIN_S + SLACK_S) == []
    assert state_of(tmp_path) == ["sent"]


def test_a_server_that_drips_delays_nobody_beyond_the_bound(kind: str, tmp_path: Path) -> None:
    """Each byte renews a socket's time-out; the courier's bound it does not."""
    text, _, takes = PAIRS[kind]
    with dripping(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 4_000 + b"\r\n\r\n{}") as port:
        carrier = Courier(stack_with(tmp_path, text.format(url=f"http://127.0.0.1:{port}", token=TOKEN)), no_block)
        carrier.post(message(takes))
        began = time.monotonic()
        (line,) = carrier.deliver(WITHIN_S)
        assert time.monotonic() - began < WITHIN_S + SLACK_S
    assert "not delivered" in line


def test_nobody_listening_is_said(kind: str, tmp_path: Path) -> None:
    """And the message stays."""
    text, name, takes = PAIRS[kind]
    with nobody() as port:
        carrier = Courier(stack_with(tmp_path, text.format(url=f"http://127.0.0.1:{port}", token=TOKEN)), no_block)
        carrier.post(message(takes))
        (line,) = carrier.deliver(WITHIN_S)
    assert line.startswith(f"channel {name}: 1 message not delivered")
    assert "refused" in line
    assert undelivered(State(tmp_path)) == [line]


def test_a_redirect_is_no_delivery(told: tuple[Courier, Message], chat: Chat, tmp_path: Path, kind: str) -> None:
    """Followed, it would become a GET without the body, answered 200 by whatever stands there."""
    carrier, first = told
    chat.always = status(302, Location=f"{chat.url}/elsewhere")
    carrier.post(first)
    assert len(carrier.deliver(WITHIN_S)) == 1
    assert state_of(tmp_path) == ["pending"]


def test_a_channel_that_is_down_does_not_keep_another_waiting(chat: Chat, tmp_path: Path) -> None:
    """Each has its own thread, and its own fate."""
    with nobody() as port:
        text = WEBHOOK.format(url=f"http://127.0.0.1:{port}", token=TOKEN) + SLACK.format(url=chat.url, token=TOKEN)
        carrier = Courier(stack_with(tmp_path, text), no_block)
        carrier.post(message())
        (line,) = carrier.deliver(WITHIN_S)
    assert line.startswith("channel hook:")
    assert len(chat.taken) == 1


# ---- Slack -------------------------------------------------------------------------------------------------


@pytest.fixture
def ops(tmp_path: Path, chat: Chat) -> Courier:
    return Courier(stack_with(tmp_path, SLACK.format(url=chat.url, token=TOKEN)), no_block)


def test_a_detail_is_in_the_thread_of_its_night(ops: Courier, chat: Chat) -> None:
    """By the timestamp that Slack gave the night's message, also when it is delivered by a later process."""
    summary = message("night", "n-night")
    ops.post(summary)
    ops.deliver(WITHIN_S)
    ops.post(message("detail", "r-detail", below="n-night"))
    ops.deliver(WITHIN_S)
    (_, root), (_, reply) = chat.taken
    assert root.get("thread_ts") is None
    assert reply["thread_ts"] == "1700000000.000000"


def test_slack_gets_no_pager_s_messages(ops: Courier, chat: Chat, tmp_path: Path) -> None:
    """They aren't even put into its outbox."""
    ops.post(message("trigger"), message("resolve", "other"))
    assert ops.deliver(WITHIN_S) == []
    assert (chat.asked, state_of(tmp_path)) == ([], [])


def test_a_token_that_slack_refuses_is_a_person_s_to_mend(tmp_path: Path, chat: Chat) -> None:
    """The message stays until the token is right, and is then delivered."""
    wrong = Courier(stack_with(tmp_path, SLACK.format(url=chat.url, token="wrong")), no_block)
    wrong.post(message())
    (line,) = wrong.deliver(WITHIN_S)
    assert "invalid_auth" in line
    assert "Remedy: check the channel's token" in line
    right = Courier(stack_with(tmp_path, SLACK.format(url=chat.url, token=TOKEN)), no_block)
    assert right.deliver(WITHIN_S) == []
    assert len(chat.taken) == 1


def test_what_slack_will_never_take_holds_up_nothing(ops: Courier, chat: Chat, tmp_path: Path) -> None:
    """It is given up, said once, and what is behind it is delivered."""
    chat.next.append(error("msg_too_long"))
    ops.post(message(id_="first"), message(id_="second"))
    (line,) = ops.deliver(WITHIN_S)
    assert "1 message given up" in line
    assert "msg_too_long" in line
    assert state_of(tmp_path) == ["dropped", "sent"]
    assert ops.deliver(WITHIN_S) == []
    assert undelivered(State(tmp_path)) == [line]


def test_blocks_that_slack_refuses_are_left_out(ops: Courier, chat: Chat) -> None:
    """Better a plain text than none."""
    chat.next.append(error("invalid_blocks"))
    ops.post(message())
    assert ops.deliver(WITHIN_S) == []
    ((_, body),) = chat.taken
    assert body.get("blocks") is None
    assert "silver lost 3" in body["text"]


def test_nothing_from_the_platform_calls_anybody(ops: Courier, chat: Chat) -> None:
    """<!channel> and its like arrive as text, in blocks and in the text of the notification."""
    evil = "<!channel> <@U1> <https://evil.example|click> & more"
    ops.post(message(title=evil, text=evil, facts=((evil, evil),)))
    assert ops.deliver(WITHIN_S) == []
    ((_, body),) = chat.taken
    shown = [block["text"] for block in body["blocks"] if block["type"] == "section"]
    assert all("<" not in text["text"] and text["verbatim"] for text in shown)
    assert "<" not in body["text"]
    assert "&lt;!channel&gt;" in body["text"]


def test_a_huge_message_keeps_slack_s_limits(ops: Courier, chat: Chat) -> None:
    """Cut, never inside an entity; the server here refuses what is beyond Slack's limits."""
    many = tuple((f"fact {n}", "&<>😀" * 600) for n in range(100))
    ops.post(message(title="&" * 5_000, text="<" * 50_000, facts=many))
    assert ops.deliver(WITHIN_S) == []
    assert len(chat.asked) == 1
    ((_, body),) = chat.taken
    texts = [body["text"], *(block["text"]["text"] for block in body["blocks"] if "text" in block)]
    assert all("&" not in re.sub("&(amp|lt|gt);", "", text) for text in texts)


# ---- PagerDuty, webhook ------------------------------------------------------------------------------------


def test_a_fail_opens_an_incident_and_the_next_pass_closes_it(tmp_path: Path, chat: Chat) -> None:
    """Under one key, from night to night."""
    carrier = Courier(stack_with(tmp_path, PAGERDUTY.format(url=chat.url, token=TOKEN)), no_block)
    carrier.post(message("trigger", "a"), message("resolve", "b", verdict=Verdict.PASS, night="20260102T020000-n"))
    assert carrier.deliver(WITHIN_S) == []
    (_, opened), (_, closed) = chat.taken
    assert (opened["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == closed["dedup_key"]
    assert opened["payload"]["severity"] == "critical"


def test_an_event_that_pagerduty_calls_invalid_is_given_up(tmp_path: Path, chat: Chat) -> None:
    """400: it would be as wrong the next time."""
    carrier = Courier(stack_with(tmp_path, PAGERDUTY.format(url=chat.url, token="wrong")), no_block)
    carrier.post(message("trigger"))
    assert "PagerDuty answered 400" in carrier.deliver(WITHIN_S)[0]
    assert state_of(tmp_path) == ["dropped"]


def test_a_webhook_gets_the_documented_body(tmp_path: Path, chat: Chat) -> None:
    """With the headers of the configuration."""
    carrier = Courier(stack_with(tmp_path, WEBHOOK.format(url=chat.url, token=TOKEN)), no_block)
    carrier.post(message())
    carrier.deliver(WITHIN_S)
    ((_, path, body, headers),) = chat.asked
    assert path == f"/hook/{TOKEN}"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert body["schema"] == 1
    assert (body["kind"], body["verdict"], body["id"]) == ("fail", "fail", "20260101T020000-n-fail")
    assert body["facts"] == [{"name": "MTTR", "value": "8 s of 120 s"}]
    assert body["links"] == {"Report": "https://reports.example/n/report.html"}


# ---- the outbox --------------------------------------------------------------------------------------------


def test_what_is_out_of_date_is_not_told(ops: Courier, chat: Chat, tmp_path: Path) -> None:
    """Nobody wants to read in the morning that something will be broken at two."""
    ops.post(message("announce", until_us=NOW_US - 1))
    (line,) = ops.deliver(WITHIN_S)
    assert "1 message given up" in line
    assert "too late" in line
    assert chat.asked == []


def test_what_is_about_to_happen_goes_before_what_has_waited(ops: Courier, chat: Chat) -> None:
    """An announcement is worth nothing after the fact."""
    ops.post(message(id_="old"), message("announce", "new", title="soon"))
    ops.deliver(WITHIN_S)
    assert [body["text"][:4] for _, body in chat.taken] == ["soon", "FAIL"]


def test_a_torn_line_loses_nothing_but_itself(ops: Courier, chat: Chat, tmp_path: Path) -> None:
    """A crash while writing leaves half a line."""
    path = tmp_path / "outbox" / "20260101T020000-n.jsonl"
    ops.post(message(id_="first"))
    with path.open("a") as file:
        file.write('{"rec":"sent","id":"fir')
    ops.post(message(id_="second"))
    assert ops.deliver(WITHIN_S) == []
    assert state_of(tmp_path) == ["sent", "sent"]


def test_two_couriers_tell_one_message_once(tmp_path: Path, chat: Chat) -> None:
    """The second waits for the first, and finds it told."""
    stack = stack_with(tmp_path, SLACK.format(url=chat.url, token=TOKEN))
    Courier(stack, no_block).post(message())
    both = [threading.Thread(target=Courier(stack, no_block).deliver, args=(WITHIN_S,)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(chat.taken) == 1


def test_an_outbox_that_can_not_be_written_is_an_error_with_a_remedy(tmp_path: Path, ops: Courier) -> None:
    """The caller says it, and the run goes on."""
    (tmp_path / "outbox").write_text("in the way")
    with pytest.raises(GamedayError, match="nobody is told"):
        ops.post(message())


# ---- secrets -----------------------------------------------------------------------------------------------


def test_a_secret_of_prefect_s_is_asked_for_when_it_is_needed(tmp_path: Path, chat: Chat) -> None:
    """Not when the configuration is read: what mends a stack needs no Prefect."""
    asked: list[str] = []

    def block(name: str) -> str:
        asked.append(name)
        return TOKEN

    carrier = Courier(stack_with(tmp_path, SLACK.format(url=chat.url, token="${prefect:slack-token}")), block)
    carrier.post(message())
    assert asked == []
    assert carrier.deliver(WITHIN_S) == []
    assert asked == ["slack-token"]
    assert len(chat.taken) == 1


@pytest.mark.parametrize("reference", ["${SLACK_TOKEN_NOBODY_SET}", "${prefect:none}"])
def test_a_secret_that_is_not_there_keeps_the_message_waiting(tmp_path: Path, chat: Chat, reference: str) -> None:
    """The stack can be opened, and mended, without it."""
    carrier = Courier(stack_with(tmp_path, SLACK.format(url=chat.url, token=reference)), no_block)
    carrier.post(message())
    (line,) = carrier.deliver(WITHIN_S)
    assert "not delivered" in line
    assert state_of(tmp_path) == ["pending"]


@pytest.mark.parametrize(
    "trouble",
    [
        status(500),
        status(404),
        status(429, Retry_After="60"),
        error("invalid_auth"),
        error("token_revoked"),
        status(302),
    ],
    ids=["500", "404", "429", "invalid_auth", "token_revoked", "302"],
)
def test_no_secret_in_any_text(
    told: tuple[Courier, Message],
    chat: Chat,
    tmp_path: Path,
    trouble: Behaviour,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Neither in what is said, nor logged at any level, nor in the outbox, whatever the server answers."""
    carrier, first = told
    chat.always = trouble
    with caplog.at_level(logging.DEBUG):
        carrier.post(first)
        lines = carrier.deliver(WITHIN_S)
    captured = capfd.readouterr()
    outbox = "".join(p.read_text() for p in (tmp_path / "outbox").iterdir())
    config = repr(carrier._stack.config) + carrier._stack.config.model_dump_json()
    assert TOKEN not in "".join([*lines, caplog.text, captured.out, captured.err, outbox, config])
    assert outbox


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('[channels.ops]\ndriver = "slakc"\n', "there is no 'slakc' in gameday/drivers. Did you mean slack"),
        ('[channels.ops]\ndriver = "slack"\ntoken = "t"\n', "channels.ops: channel missing"),
        ('[channels.ops]\ndriver = "slack"\ntoken = "t"\nchannel = "C"\nchanel = "D"\n', "unknown chanel"),
        ('[channels.ops]\ndriver = "webhook"\nurl = "nowhere"\n', "the webhook's url is no HTTP address"),
        ('[channels.ops]\ndriver = "kafka"\n', "offers no Channel"),
    ],
)
def test_a_channel_that_is_described_wrongly_is_named(tmp_path: Path, text: str, match: str) -> None:
    """As any other part of the configuration."""
    with pytest.raises(ConfigError, match=match):
        stack_with(tmp_path, text).channel("ops", no_block)


def test_json_of_the_outbox_is_one_object_a_line(ops: Courier, tmp_path: Path) -> None:
    """For whoever wants to know what was told."""
    ops.post(message())
    ops.deliver(WITHIN_S)
    lines = (tmp_path / "outbox" / "20260101T020000-n.jsonl").read_text().split("\n")
    assert [json.loads(line)["rec"] for line in lines if line] == ["message", "sent"]
