"""What a Slack message is made of: escaped, within Slack's limits, whatever the platform said."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from gameday.drivers import slack
from gameday.model import Message, Verdict

TEXTS = st.text(alphabet="&<>;ampltg\n😀`*@", max_size=80)


def message(title: str, text: str, facts: tuple[tuple[str, str], ...], links: tuple[tuple[str, str], ...]) -> Message:
    return Message("i", "fail", "n", "s", "a", 0, 0, Verdict.FAIL, title, text, facts, links)


@given(st.text(alphabet="&<a😀", max_size=20), st.integers(8, 30))
def test_a_cut_text_is_within_its_limit_and_cuts_no_entity(text: str, most: int) -> None:
    """Counted as Slack counts, in UTF-16 units; what fits is left alone."""
    whole = slack.escaped(text)
    cut = slack._cut(whole, most)
    assert len(cut.encode("utf-16-le")) // 2 <= most
    assert "&" not in re.sub("&(?:amp|lt|gt);", "", cut)
    assert cut == whole or whole.startswith(cut.removesuffix(" …"))


@given(TEXTS)
def test_an_escaped_text_comes_back(text: str) -> None:
    """Nothing is lost but the power to mention, to link and to call."""
    escaped = slack.escaped(text)
    assert not set("<>") & set(escaped)
    assert escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text


@given(TEXTS, TEXTS, st.lists(st.tuples(TEXTS, TEXTS.map(lambda t: t * 200)), max_size=120))
def test_blocks_keep_slack_s_limits(title: str, text: str, facts: list[tuple[str, str]]) -> None:
    """50 blocks, 3,000 units each; links last."""
    shown = slack.blocks(message(title, text, tuple(facts), (("Report", "https://r.example/a b|c>d"),)))
    assert 2 <= len(shown) <= slack.BLOCKS_MAX
    for block in shown[:-1]:
        assert 0 < len(block["text"]["text"].encode("utf-16-le")) // 2 <= slack.SECTION_CHARACTERS_MAX
        assert "<" not in block["text"]["text"]
    assert shown[-1]["elements"][0]["text"] == "<https://r.example/a%20b%7Cc%3Ed|Report>"


def test_a_path_is_no_link() -> None:
    """It is on the machine that ran the night."""
    shown = slack.blocks(message("t", "x", (), (("Report", "nights/n/report.html"),)))
    assert shown[-1]["elements"][0]["text"] == "Report: `nights/n/report.html`"
