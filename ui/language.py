"""The texts of the pages in Chinese and English, and which of the two a visitor reads.

All texts are in `locales/`, one file a language. Gradio's own components translate themselves in
the browser (`translations`); what the server writes takes its text from `Texts`.
"""

from functools import cache
from pathlib import Path

import gradio as gr
import yaml
from starlette.requests import HTTPConnection

from db import Language

COOKIE = "twopane_language"
LOCALES = {Language.ZH: "zh-CN", Language.EN: "en"}
"""What Gradio calls our languages; it knows no plain "zh"."""

_FOLDER = Path(__file__).parent / "locales"
_SUBTAGS = {"zh": Language.ZH, "en": Language.EN}


class Texts:
    """The texts of one language by name: `texts("missing_many", n=3)`."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._texts: dict[str, str] = yaml.safe_load(
            (_FOLDER / f"{language}.yaml").read_text(encoding="utf-8")
        )

    def __call__(self, name: str, /, **values: object) -> str:
        """Return the text of that name, filled in. Raises KeyError for an unknown name."""
        return self._texts[name].format(**values) if values else self._texts[name]

    def all(self) -> dict[str, str]:
        """Return every text by name."""
        return dict(self._texts)


@cache
def texts_in(language: Language) -> Texts:
    """Return the texts of `language`; read once."""
    return Texts(language)


@cache
def translations() -> gr.I18n:
    """Return what Gradio's own components translate themselves with."""
    return gr.I18n(**{LOCALES[language]: texts_in(language).all() for language in Language})


def text_key(name: str) -> gr.i18n.I18nData:
    """Return a label that the browser translates. Raises KeyError for an unknown name."""
    texts_in(Language.EN)(name)
    return translations()(name)


def language_of(request: HTTPConnection) -> Language:
    """Return the language chosen with the switch, else the browser's first one that we have."""
    chosen = request.cookies.get(COOKIE)
    if chosen in _SUBTAGS:
        return _SUBTAGS[chosen]
    for accepted in request.headers.get("accept-language", "").lower().split(","):
        if language := _SUBTAGS.get(accepted.strip()[:2]):
            return language
    return Language.EN
