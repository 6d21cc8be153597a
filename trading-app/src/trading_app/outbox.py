"""Where trades wait until they can go."""

from collections import deque


class MemoryOutbox:
    """Messages in order, at most ``capacity`` of them: where one more comes the oldest is dropped, and counted."""

    def __init__(self, capacity: int = 1_000_000) -> None:
        self._messages: deque[bytes] = deque(maxlen=capacity)
        self.lost = 0

    def __len__(self) -> int:
        return len(self._messages)

    def append(self, message: bytes) -> None:
        if len(self._messages) == self._messages.maxlen:
            self.lost += 1
        self._messages.append(message)

    def first(self) -> bytes:
        return self._messages[0]

    def drop_first(self) -> None:
        self._messages.popleft()
