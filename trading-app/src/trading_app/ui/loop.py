"""The loop in one look: who is up, who is away, what waits; and what that means, in words."""

from collections.abc import Iterator
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import streamlit as st

from trading_app.settings import Settings
from trading_app.ui.desk import Desk
from trading_app.ui.watch import View
from trading_app.ui.words import clock, number, waits

# A commit takes an instant: so many that wait are more than that.
_MANY = 10_000

type _Colour = Literal["green", "blue", "orange", "red", "gray"]


class Station(NamedTuple):
    """A part of the loop: its name, where it lives, how it is."""

    name: str
    url: str
    state: str
    colour: _Colour


class Message(NamedTuple):
    """What a person should know now."""

    kind: Literal["success", "warning", "error"]
    text: str


def stations(settings: Settings, waiting: int, view: View) -> Iterator[Station]:
    """The parts of the loop, in the order in which a trade goes through them."""
    colour: _Colour = "green" if not waiting else "orange" if view.sidecar or waiting >= _MANY else "blue"
    yield Station("this page", "", waits(waiting) if waiting else "nothing waits", colour)
    yield Station("side-car", f"{settings.sidecar_url}/metrics", *_state(view.sidecar, "away", "red"))
    blind = not (view.prometheus or view.scraped or view.sidecar)
    state: tuple[str, _Colour] = (
        ("misses the side-car", "orange") if blind else _state(view.prometheus, "not running", "gray")
    )
    yield Station("Prometheus", settings.prometheus_url, *state)
    yield Station("Grafana", settings.grafana_url, *_state(view.grafana, "not running", "gray"))


def _state(problem: str, away: str, colour: _Colour) -> tuple[str, _Colour]:
    return (away, colour) if problem else ("up", "green")


def message(waiting: int, capacity: int, dropped: int, view: View) -> Message:
    """What matters most."""
    if waiting >= capacity:
        text = (
            f"**Trades are being lost.** The outbox is full, and each new trade drops the oldest: {dropped:,} so far."
        )
        return Message("error", text)
    if view.sidecar:
        wait = waits(waiting) if waiting else "New trades wait"
        known = f" Numbers as of {clock(view.totals_at)}." if view.totals else ""
        text = f"**The side-car is away** ({view.sidecar}). {wait} here, and will go on by themselves.{known}"
        return Message("warning", text)
    if waiting >= _MANY:
        text = f"**The side-car falls behind.** {waits(waiting)} here; there is room for {capacity - waiting:,} more."
        return Message("warning", text)
    if view.lost:
        text = (
            f"**{number(view.lost)} trades were lost** in the last minutes: an outbox was full, or totals began anew."
        )
        return Message("warning", text)
    return Message("success", "**All is well.** What is sent is counted, each trade exactly once.")


def loop(desk: Desk, view: View) -> None:
    waiting = desk.waiting
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="loop"):
        parts = stations(desk.settings, waiting, view)
        for link, station in zip(("", "trades →", "totals →", "series →"), parts, strict=True):
            if link:
                st.markdown(f":gray[{link}]", width="content")
            with st.container(border=True, width="content"):
                name = (
                    f"[{station.name}]({from_the_browser(station.url, st.context.url)})"
                    if station.url
                    else station.name
                )
                st.markdown(f"**{name}** :{station.colour}-badge[{station.state}]", width="content")
    kind, text = message(waiting, desk.capacity, desk.lost, view)
    {"success": st.success, "warning": st.warning, "error": st.error}[kind](text)


def from_the_browser(url: str, page: str | None) -> str:
    """A neighbour's address as the browser reaches it: a name without a dot means the host that the page comes from."""
    parts, here = urlsplit(url), urlsplit(page or "")
    if not here.hostname or "." in (parts.hostname or "") or ":" in (parts.hostname or ""):
        return url
    host = f"[{here.hostname}]" if ":" in here.hostname else here.hostname
    return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host).geturl()
