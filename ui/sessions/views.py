"""How sessions, prompt sets and packs look on the operator's page. Decides nothing."""

from collections.abc import Sequence

from db import SessionState, TrialKind
from rating.packs.store import StoredPack
from rating.prompt_sets import PromptSet, StoredSet
from rating.sessions.sessions import Overview
from ui import markup
from ui.language import Texts

_CLOSE = ("close", "session_close")
_ACTIONS = {
    SessionState.OPEN: (("pause", "session_pause"), _CLOSE),
    SessionState.PAUSED: (("resume", "session_resume"), _CLOSE),
    SessionState.CLOSED: (),
}
_SHOWN_PROMPTS = 200


def sessions(t: Texts, found: Sequence[Overview]) -> str:
    """Return all sessions with their progress and what can be done with them."""
    return markup.render(
        "sessions_list",
        t,
        sessions=found,
        actions=_ACTIONS,
        rules=lambda one: _rules(t, one),
        checks=lambda one: sum(one.checks.get(kind, 0) for kind in TrialKind),
    )


def _rules(t: Texts, one: Overview) -> str:
    """Return what the session asks of its raters, in one line."""
    said = [
        t("blind" if one.blind else "open"),
        t("session_raters_n", n=one.raters_per_prompt),
        t("session_repeats_n", n=f"{100 * one.repeat_share:g}"),
        t("session_attention_n", n=f"{100 * one.attention_share:g}"),
        t("session_results", rule=t(f"results_{one.results}")),
    ]
    if one.asks_guess:
        said.append(t("session_guess_label"))
    if one.at_once:
        said.append(t("session_at_once_label"))
    return " · ".join(said)


def set_title(t: Texts, one: StoredSet) -> str:
    """Return a prompt set in one line."""
    return t("set_title", name=one.name, prompts=one.regular, attention=one.attention)


def pack_title(t: Texts, one: StoredPack) -> str:
    """Return a pack in one line."""
    return f"{one.name}: {' · '.join(model.title for model in one.models)}"


def sets(t: Texts, stored: Sequence[StoredSet], previews: Sequence[PromptSet]) -> str:
    """Return the prompt sets, each to be opened and read."""
    return markup.render(
        "sessions_previews",
        t,
        sets=[
            (set_title(t, one), one.id, preview.prompts[:_SHOWN_PROMPTS], len(preview.prompts))
            for one, preview in zip(stored, previews, strict=True)
        ],
    )


def packs(t: Texts, stored: Sequence[StoredPack], known: Sequence[StoredSet]) -> str:
    """Return the packs in a table."""
    names = {one.id: one.name for one in known}
    return markup.render(
        "sessions_packs",
        t,
        packs=[(pack_title(t, one), names.get(one.prompt_set_id, ""), one) for one in stored],
    )
