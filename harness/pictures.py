"""The pictures of the documentation."""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Page


class Pictures:
    """Takes the pictures of the documentation, into the folder SCREENSHOTS. Without it, takes few and keeps none."""

    def __init__(self, folder: Path) -> None:
        shown = os.environ.get("SCREENSHOTS")
        self._is_shown = bool(shown)
        self._folder = Path(shown) if shown else folder
        # For the documentation, charts need data and the page needs time to settle.
        self.patience, self._settle = (60_000, 1500) if shown else (0, 100)

    def take(
        self, page: Page, name: str, scheme: Literal["light", "dark"] = "light", size: tuple[int, int] = (1280, 1000)
    ) -> None:
        if not self._is_shown:
            return
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme=scheme)
        page.mouse.move(5, 5)
        page.mouse.wheel(0, -10_000)
        page.wait_for_timeout(self._settle)
        shot = Image.open(io.BytesIO(page.screenshot()))
        shot.quantize(256, dither=Image.Dither.NONE).save(self._folder / f"{name}.png", optimize=True)

    def record(self, page: Page, name: str, acts: dict[int, Callable[[], None]], frames: int) -> Path:
        """An animation; ``acts`` maps the number of a frame to what is done before it."""
        page.set_viewport_size({"width": 1600, "height": 600})
        page.wait_for_timeout(self._settle)
        shots: list[Image.Image] = []
        started = time.monotonic()
        for number in range(frames) if self._is_shown else acts:
            acts.get(number, lambda: None)()
            whole = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            shot = whole.resize((1120, 420), Image.Resampling.LANCZOS)
            shots.append(shot.quantize(palette=shots[0], dither=Image.Dither.NONE) if shots else shot.quantize(200))
        path = self._folder / f"{name}.gif"
        each = round(1000 * (time.monotonic() - started) / len(shots))
        shots[0].save(path, save_all=True, append_images=shots[1:], duration=each, loop=0, optimize=True)
        return path
