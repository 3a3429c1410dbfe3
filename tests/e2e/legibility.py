"""What can be seen, read and named on a page: contrasts, accessible names, overflow.

The measures of an accessibility checker, as far as the pages need them, without one.
"""

from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Page

_FAINT_TEXTS = """() => {
  const parse = (colour) => {
    const numbers = colour.match(/[\\d.]+(e-?\\d+)?/g).map(Number);
    const scale = colour.startsWith("color(") ? 255 : 1;
    return [...numbers.slice(0, 3).map((n) => n * scale), numbers[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = (colour) => {
    const [r, g, b] = colour.map((n) => (n / 255 <= 0.03928 ? n / 255 / 12.92 : ((n / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.unshift(parse(getComputedStyle(e).backgroundColor));
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const opacity = (element) => {
    let product = 1;
    for (let e = element; e; e = e.parentElement) product *= Number(getComputedStyle(e).opacity);
    return product;
  };
  const judge = (element, words, style) => {
    const colour = parse(element.closest("svg") ? style.fill : style.color);
    colour[3] *= opacity(element);
    const below = ground(element);
    const [a, b] = [light(over(colour, below)), light(below)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    return { words, ratio: (a + 0.05) / (b + 0.05), needed: large ? 3 : 4.5 };
  };
  // Half-way colours are nobody's choice, nor is a message that is fading away.
  const ends = (animation) => Number.isFinite(animation.effect.getComputedTiming().endTime);
  for (const animation of document.getAnimations().filter(ends)) animation.finish();
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const words = node.textContent.trim();
    if (!words || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || !element.getClientRects().length) continue;
    if (element.closest("[disabled], :disabled, label:has(:disabled), .tp-row:has(:disabled), script, style, noscript")) continue;
    found.push(judge(element, words, getComputedStyle(element)));
  }
  for (const field of document.querySelectorAll("textarea:enabled, input:enabled")) {
    if (!field.placeholder || field.value || !field.checkVisibility()) continue;
    found.push(judge(field, field.placeholder, getComputedStyle(field, "::placeholder")));
  }
  return found;
}"""

_OVERFLOW = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll("body *")]
    .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > width + 1)
    .map((e) => `${e.tagName}.${e.className} to ${e.getBoundingClientRect().right} of ${width}`);
}"""

_CONTROLS = {"button", "link", "textbox", "radio", "combobox", "listbox", "checkbox", "spinbutton"}


@dataclass(frozen=True)
class SeenText:
    """A text on the page and the contrast to its ground."""

    words: str
    ratio: float
    needed: float


def texts(page: Page) -> list[SeenText]:
    """Return every visible text; of disabled controls none, as the guideline has it."""
    return [SeenText(**text) for text in page.evaluate(_FAINT_TEXTS)]


def faint_texts(page: Page) -> list[str]:
    """Return the texts whose contrast is below WCAG AA."""
    seen = texts(page)
    assert seen  # a page without any text would prove nothing
    return [f"{t.words[:40]!r}: {t.ratio:.2f}" for t in seen if t.ratio < t.needed]


def overflowing(page: Page) -> list[str]:
    """Return what makes the page wider than its window."""
    return list(page.evaluate(_OVERFLOW))


def controls(page: Page) -> list[tuple[str, str]]:
    """Return role and name of every control, as a screen reader gets them."""
    session = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [
        (node["role"]["value"], str(node.get("name", {}).get("value", "")).strip())
        for node in nodes
        if not node["ignored"] and node.get("role", {}).get("value") in _CONTROLS
    ]


def nameless(page: Page) -> list[tuple[str, str]]:
    """Return the controls that a screen reader can't name."""
    found = controls(page)
    assert found
    return [control for control in found if not control[1]]
