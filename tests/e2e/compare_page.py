"""The compare page as a person sees and uses it, whatever its language."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from playwright.sync_api import Locator, Page, expect

from db import Dimension, Preference, Side

ROWS = [*(f"{side}.{dimension}" for dimension in Dimension for side in Side), "preference"]
"""The rows of the rating in the order in which the keys go through them."""

_OPEN_GRID = "form[data-trial] fieldset:not([disabled])"

NO_SCORES: Mapping[str, str | int] = MappingProxyType({})

_WATCH_PANES = """(turn) => {
  const length = (side) =>
    document.querySelectorAll(`#pane-${side} [data-testid=bot]`)[turn - 1]?.innerText.trim().length ?? 0;
  const frames = (window.seenFrames = []);
  const look = (at) => {
    if (frames !== window.seenFrames) return; // another turn is watched by now
    const now = [length("left"), length("right")];
    const last = frames.at(-1);
    if (!last || last[1] !== now[0] || last[2] !== now[1]) frames.push([at / 1000, ...now]);
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""


@dataclass(frozen=True)
class Frame:
    """What the panes showed from some moment on: the lengths of both last answers."""

    at_s: float
    left: int
    right: int


class ComparePage:
    """One tab with the compare page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.prompt = page.locator("#prompt textarea")
        self.ask_button = page.locator("#ask")
        self.stop_button = page.locator("#stop")
        self.new_button = page.locator("#new")
        self.form = page.locator("form[data-trial]")
        self.grid = self.form.locator("fieldset")
        self.comment = self.form.locator("textarea")
        self.save_button = self.form.locator("[data-action=send]")
        self.missing = self.form.locator("[data-missing]")
        self.hint = self.form.locator(".tp-rating-head p")
        self.reveal = page.locator("#reveal .tp-reveal")
        self.status = page.locator(".tp-status")
        self.keys_dialog = page.locator("dialog")
        self.toast = page.get_by_test_id("toast-text")

    # --- what is there ----------------------------------------------------------------------------

    def pane(self, side: Side) -> Locator:
        return self.page.locator(f"#pane-{side}")

    def answers(self, side: Side) -> Locator:
        return self.pane(side).get_by_test_id("bot")

    def foot(self, side: Side) -> Locator:
        return self.page.locator(f"#foot-{side}")

    def retry_button(self, side: Side) -> Locator:
        return self.page.locator(f"#retry-{side}")

    def row(self, row: str) -> Locator:
        return self.form.locator(f'[data-row="{row}"]')

    def option(self, row: str, value: str | int) -> Locator:
        """The radio button itself."""
        return self.row(row).locator(f'input[value="{value}"]')

    def label(self, row: str, value: str | int) -> Locator:
        """What a person sees and hits of an option."""
        return self.row(row).locator("label", has=self.page.locator(f'input[value="{value}"]'))

    @property
    def rateable(self) -> bool:
        """Whether the form is open now."""
        return self.page.locator(_OPEN_GRID).count() > 0

    def cookies(self) -> dict[str, str]:
        """What makes another browser the same visitor."""
        return {c["name"]: c["value"] for c in self.page.context.cookies(self.page.url)}

    @property
    def trial(self) -> str:
        return self.form.get_attribute("data-trial") or ""

    def entered(self) -> dict[str, str]:
        """What is chosen, by row."""
        chosen: dict[str, str] = self.form.evaluate(
            "form => Object.fromEntries([...form.querySelectorAll('input:checked')]"
            ".map(input => [input.name, input.value]))"
        )
        return chosen

    # --- what a person does -----------------------------------------------------------------------

    def wait_loaded(self) -> "ComparePage":
        self.form.wait_for()
        self.status.wait_for()
        return self

    def come_back(self) -> "ComparePage":
        """Bring this tab to the front: browsers let the others sleep."""
        self.page.bring_to_front()
        return self

    def in_another_tab(self) -> "ComparePage":
        """Open the same page as the same visitor once more."""
        tab = self.page.context.new_page()
        tab.goto(self.page.url)
        return ComparePage(tab).wait_loaded()

    def ask(self, prompt: str) -> None:
        self.prompt.fill(prompt)
        self.ask_button.click()

    def wait_rateable(self, turns: int = 1) -> None:
        """Wait until both answers of that many turns are complete."""
        open_grid = f'form[data-turns="{turns}"] fieldset:not([disabled])'
        self.page.locator(open_grid).wait_for()

    def wait_revealed(self) -> None:
        self.reveal.wait_for()

    def choose(self, row: str, value: str | int) -> None:
        self.label(row, value).click()

    def fill_in(self, scores: Mapping[str, str | int] = NO_SCORES, preference: str = "tie") -> None:
        """Choose something in every row by mouse; without a score it is not applicable."""
        for row in ROWS[:-1]:
            self.choose(row, scores.get(row, "na"))
        self.choose("preference", Preference(preference))

    def rate(self, scores: Mapping[str, str | int] = NO_SCORES, preference: str = "tie") -> None:
        """Fill in everything by mouse, save, and wait for the reveal."""
        self.fill_in(scores, preference)
        self.save_button.click()
        self.wait_revealed()

    def watch_panes(self, turn: int = 1) -> None:
        """Begin to note, frame by frame, what the panes show of that turn; see `frames`."""
        self.page.evaluate(_WATCH_PANES, turn)

    def frames(self) -> list[Frame]:
        seen: list[list[Any]] = self.page.evaluate("window.seenFrames")
        return [Frame(*frame) for frame in seen]

    def expect_locked(self) -> None:
        expect(self.grid).to_have_attribute("disabled", "")

    def expect_missing(self, words: str) -> None:
        expect(self.missing).to_have_text(words)
