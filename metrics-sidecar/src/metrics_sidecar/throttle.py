"""Log lines about what senders do, no more than a person can read."""

import logging
import time
from collections import Counter

from metrics_sidecar.messages import GapFill, Rejected

_INTERVAL = 1.0

log = logging.getLogger(__name__)


class Throttle:
    """Logs at most one warning per kind and second, and says how many it left out."""

    def __init__(self) -> None:
        self._logged_at: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def warn_of(self, message: GapFill | Rejected) -> None:
        if isinstance(message, Rejected):
            # Sent by anyone: no character of it may act on a terminal.
            detail = message.detail.encode("unicode_escape").decode()
            self.warn(message.reason, f"rejected {message.reason}: {detail}: {message.start!r}")
        else:
            gone = f"trades before seq {message.new_seq} that were not counted are gone for good"
            self.warn("gap_fill", f"session {message.session}: {gone}")

    def warn(self, kind: str, line: str) -> None:
        now = time.monotonic()
        if now - self._logged_at.get(kind, -_INTERVAL) < _INTERVAL:
            self._left_out[kind] += 1
            return
        self._logged_at[kind] = now
        left_out = self._left_out.pop(kind, 0)
        log.warning("%s%s", line, f" (and {left_out} more since the last such line)" if left_out else "")
