"""The state of the loop: in two words, and part by part in the order in which a trade passes them."""

from collections.abc import Iterator
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import streamlit as st

from trading_app.settings import Settings
from trading_app.ui.clicks import once
from trading_app.ui.desk import Desk
from trading_app.ui.formatting import clock, trades_text, waiting_text
from trading_app.ui.poller import Snapshot

# A commit takes milliseconds. More trades than this wait only if the sidecar does not keep up.
_MANY = 10_000
# A full journal drops an eighth of its capacity, or less, to make room.
_FULL = 7 / 8

type _Colour = Literal["green", "blue", "orange", "red", "gray"]


class Station(NamedTuple):
    """A part of the loop; ``url`` is empty unless it can be opened."""

    name: str
    url: str
    state: str
    colour: _Colour


class Summary(NamedTuple):
    """The state that matters most: a title of two words, and a sentence, empty if there is nothing to say."""

    kind: Literal["success", "warning", "error"]
    title: str
    text: str


def stations(settings: Settings, waiting: int, snapshot: Snapshot) -> Iterator[Station]:
    """The parts of the loop, in the order in which a trade passes them."""
    colour: _Colour = "green" if not waiting else "orange" if snapshot.sidecar or waiting >= _MANY else "blue"
    yield Station("This page", "", f"{waiting:,} waiting" if waiting else "idle", colour)
    yield _service("Sidecar", f"{settings.sidecar_url}/metrics", snapshot.sidecar, "away", "red")
    if snapshot.prometheus or snapshot.scraped or snapshot.sidecar:
        yield _service("Prometheus", settings.prometheus_url, snapshot.prometheus)
    else:
        yield Station("Prometheus", settings.prometheus_url, "cannot reach the sidecar", "orange")
    yield _service("Grafana", settings.grafana_url, snapshot.grafana)


def _service(name: str, url: str, problem: str, away: str = "not running", colour: _Colour = "gray") -> Station:
    return Station(name, "", away, colour) if problem else Station(name, url, "up", "green")


def summarize(waiting: int, capacity: int, dropped: int, snapshot: Snapshot) -> Summary:
    """The most serious state that applies."""
    if waiting >= capacity or (dropped and waiting >= _FULL * capacity):
        text = f"The outbox is full, and new trades drop the oldest: {dropped:,} so far."
        return Summary("error", "Losing trades", text)
    if snapshot.sidecar:
        wait = waiting_text(waiting) if waiting else "New trades wait"
        known = f" Numbers as of {clock(snapshot.totals_at)}." if snapshot.totals else ""
        text = f"{wait} here until it is back ({snapshot.sidecar}).{known}"
        return Summary("warning", "Sidecar away", text)
    if waiting >= _MANY:
        text = f"{waiting_text(waiting)} here. There is room for {capacity - waiting:,} more."
        return Summary("warning", "Sidecar behind", text)
    if snapshot.lost:
        text = f"{trades_text(snapshot.lost)} in the last 5 minutes: an outbox was full, or the sidecar lost its state."
        return Summary("warning", "Trades lost", text)
    return Summary("success", "Live", "")


def draw_status(desk: Desk, snapshot: Snapshot) -> None:
    waiting = desk.waiting
    kind, title, text = summarize(waiting, desk.capacity, desk.lost, snapshot)
    is_open = st.session_state.get("unfolded", False)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="status"):
        st.title("trading-telemetry", anchor=False, width="content")
        {"success": st.success, "warning": st.warning, "error": st.error}[kind](f"**{title}**", width=150)
        st.button(
            "Less" if is_open else "More",
            icon=":material/expand_less:" if is_open else ":material/expand_more:",
            type="tertiary",
            key="unfold",
            on_click=once,
            args=("unfold", _unfold, not is_open),
        )
    with st.container(horizontal=True, vertical_alignment="center", key="unfolded-loop" if is_open else "folded-loop"):
        st.markdown(" → ".join(map(_label, stations(desk.settings, waiting, snapshot))), width="content")
        if text:
            st.markdown(f":small[{text}]", width="content")


def _label(station: Station) -> str:
    url = from_the_browser(station.url, st.context.url)
    name = f"[{station.name}]({url})" if station.url else station.name
    return f"{name} :{station.colour}-badge[{station.state}]"


def _unfold(is_open: bool) -> None:
    st.session_state["unfolded"] = is_open


def from_the_browser(url: str, page: str | None) -> str:
    """A service's address for the browser: a host name without a dot becomes the host that serves the page."""
    parts, here = urlsplit(url), urlsplit(page or "")
    if not here.hostname or "." in (parts.hostname or "") or ":" in (parts.hostname or ""):
        return url
    host = f"[{here.hostname}]" if ":" in here.hostname else here.hostname
    return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host).geturl()
