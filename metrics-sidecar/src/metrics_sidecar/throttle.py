"""Rate-limited warnings about what senders do."""

import logging
import time
from collections import Counter

from metrics_sidecar.messages import GapFill, Rejected

INTERVAL = 1.0

log = logging.getLogger(__name__)


class Throttle:
    """Logs at most one warning of each kind per second, with the number of warnings suppressed before it."""

    def __init__(self) -> None:
        self._logged_at: dict[str, float] = {}
        self._suppressed: Counter[str] = Counter()

    def warn_of(self, message: GapFill | Rejected) -> None:
        """Log a rejection, or a gap fill that declares trades lost."""
        if isinstance(message, Rejected):
            # The sender is untrusted: escape control characters.
            detail = message.detail.encode("unicode_escape").decode()
            self.warn(message.reason, f"rejected {message.reason}: {detail}: {message.start!r}")
        else:
            lost = f"trades before seq {message.new_seq} that were not counted are lost"
            self.warn("gap_fill", f"session {message.session}: {lost}")

    def warn(self, kind: str, line: str) -> None:
        """Log a line, unless a line of this kind was logged within the last second."""
        now = time.monotonic()
        if now - self._logged_at.get(kind, -INTERVAL) < INTERVAL:
            self._suppressed[kind] += 1
            return
        self._logged_at[kind] = now
        suppressed = self._suppressed.pop(kind, 0)
        log.warning("%s%s", line, f" ({suppressed} similar warnings suppressed)" if suppressed else "")
