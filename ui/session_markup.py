"""What a rater sees of a rating session: its name, how far they are, and at its end who was who.

All that is in a standing may be shown; nothing here decides that. The session's trials look like
any others: `markup` draws them.
"""

from enum import StrEnum

from db import Dimension, SessionState, Side, TrialState
from rating.dimensions import WORDINGS
from rating.sessions.standing import Revealed, Standing
from rating.trial import TrialView
from ui import markup
from ui.language import Texts


class Stage(StrEnum):
    """What of the page a rater needs in a session; `static/page.css` hides the rest."""

    START = "start"
    TRIAL = "trial"
    FREE = "free"  # a trial from before the session
    OVER = "over"
    CLOSED = "closed"  # the page is as without a session


def stage_of(view: TrialView, standing: Standing) -> Stage:
    """Return how far the rater is with the page."""
    if standing.state is SessionState.CLOSED and standing.finished:
        return Stage.CLOSED
    begun = bool(view.turns) and view.state is not TrialState.ABANDONED
    if begun and view.session == standing.session and not (view.rating and standing.finished):
        return Stage.TRIAL
    if begun and view.session is None and view.rating is None:
        return Stage.FREE
    return Stage.OVER if standing.finished else Stage.START


def session(t: Texts, view: TrialView, standing: Standing | None) -> str:
    """Return the part of the page that is the session's; "" without one."""
    if standing is None:
        return ""
    stage = stage_of(view, standing)
    message = _message(standing, stage)
    return markup.render(
        "session",
        t,
        standing=standing,
        stage=stage,
        message=t(message) if message else "",
        preference=lambda one: _preferred(t, one),
        sides=list(Side),
        dimensions=[(key, WORDINGS[key][t.language].name) for key in Dimension],
    )


def _message(standing: Standing, stage: Stage) -> str:
    """Return the name of the text that says what to do now."""
    if stage is Stage.CLOSED:
        return "session_closed_thanks" if standing.done else "session_closed"
    if stage is Stage.OVER:
        return "session_thanks" if standing.done else "session_done"
    at_trial = stage is Stage.TRIAL
    if standing.state is SessionState.CLOSED:
        return "session_closed_at_trial"
    if standing.state is SessionState.PAUSED:
        return "session_paused_at_trial" if at_trial else "session_paused"
    if stage is Stage.FREE:
        return "session_free_trial"
    lead = "session_taken" if standing.waits else "session_start_lead"
    return "" if at_trial else lead


def next_label(view: TrialView, standing: Standing | None) -> str:
    """Return the name of the text on the button that begins a trial."""
    if standing is None or stage_of(view, standing) is Stage.CLOSED:
        return "new_trial"
    if standing.waits or standing.state is SessionState.PAUSED:
        return "session_look_again"
    begun = standing.done or stage_of(view, standing) is Stage.TRIAL
    return "session_next" if begun else "session_start"


def may_begin(view: TrialView, standing: Standing | None) -> bool:
    """Whether the button does anything: an own trial of the session has to be rated first."""
    if standing is None or stage_of(view, standing) is not Stage.TRIAL:
        return True
    return view.rating is not None


def saved(t: Texts, view: TrialView, standing: Standing | None) -> str:
    """Return what stands under the panes once a trial of a session that goes on is rated."""
    if standing is None or view.rating is None or stage_of(view, standing) is not Stage.TRIAL:
        return ""
    return markup.render("saved", t)


def _preferred(t: Texts, one: Revealed) -> str:
    side = {"left": Side.LEFT, "right": Side.RIGHT}.get(one.preference)
    return t("preferred", model=one.models[side]) if side else t(one.preference)
