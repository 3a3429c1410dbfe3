"""The sessions page as an operator sees and uses it."""

from pathlib import Path

from playwright.sync_api import Locator, Page, expect


class SessionsPage:
    """One tab with the sessions page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.file = page.locator("input[type=file]")
        self.content = page.locator("#set-content textarea")
        self.add_set = page.locator("#set-add")
        self.prompt_set = page.locator("#session-set input")
        self.name = page.locator("#session-name").locator("input, textarea")
        self.raters = page.locator("#session-raters input")
        self.repeats = page.locator("#session-repeats input")
        self.attention = page.locator("#session-attention input")
        self.guess = page.locator("#session-guess input")
        self.create = page.locator("#session-create")
        self.toast = page.get_by_test_id("toast-text")

    def wait_open(self) -> "SessionsPage":
        """Wait for all that the operator has."""
        self.create.wait_for()
        expect(self.prompt_set).not_to_have_value("")
        return self

    def session(self, name: str) -> Locator:
        """The card of the session of that name."""
        return self.page.locator("#sessions-list article", has_text=name)

    def act(self, name: str, action: str) -> None:
        """Press a button of the session, and say yes if that is asked."""
        self.page.once("dialog", lambda dialog: dialog.accept())
        self.session(name).locator(f"[data-action={action}]").click()

    def choose_file(self, file: Path) -> None:
        self.file.set_input_files(file)
        expect(self.content).not_to_have_value("")
