"""Who plays the sides of trials: the running models, or those of a rating session's pack.

Knows by which names they go, and opens the answers of a turn in the database, saying what each
model is to be asked. Asks nobody itself.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy.orm import Session

from backends.catalog import MODELS, Model
from db import RatingSession, Side, Trial, Turn
from rating import record
from rating.answering import Opened
from rating.assignment import pair_key
from rating.errors import WrongState
from rating.run import ChatModel, Question
from rating.sessions.answers import (
    Conditions,
    conditions_of,
    packed_models,
    questions_of,
)
from rating.trial import TrialView, view_of


class Cast:
    """The two models that are running, and with them those of any trial."""

    def __init__(self, models: Sequence[ChatModel]) -> None:
        """Take the two models, in any order."""
        self._running = {chat_model.model.key: chat_model for chat_model in models}
        self.pair = pair_key(*self._running)

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the running models."""
        return frozenset(self._running)

    @property
    def models(self) -> tuple[Model, ...]:
        """The running models, in the order of their keys."""
        return tuple(self._running[key].model for key in sorted(self._running))

    def view_of(self, trial: Trial) -> TrialView:
        """Return what the rater of `trial` may see, with what depends on the models."""
        view = replace(view_of(trial), other_models=self.has_other_models(trial))
        given_by = trial.assignment.session if trial.assignment else None
        if given_by is None or not given_by.asks_guess:
            return view
        first, second = trial.pair.split("|")
        titles = (self.title(given_by, first), self.title(given_by, second))
        return replace(view, to_guess=titles if titles[0] != titles[1] else (first, second))

    def has_other_models(self, trial: Trial) -> bool:
        """Whether it was begun with models that are no longer there."""
        given_by = trial.assignment.session if trial.assignment else None
        return trial.pair != self.pair and (given_by is None or given_by.pack_id is None)

    def title(self, rating_session: RatingSession, key: str) -> str:
        """Return what a model of the session is called for people."""
        known = packed_models(rating_session) or self._running
        if key in known:
            return known[key].model.title
        return MODELS[key].title if key in MODELS else key

    def conditions(self, session: Session, view: TrialView) -> Conditions:
        """Return how the answers of a trial are shown."""
        if view.session is not None:
            given_by = session.get_one(RatingSession, view.session)
            return conditions_of(session, given_by, self._running)
        # Names of both models on both sides: a name left standing would tell as much.
        names = {name for model in self.models for name in model.names}
        return Conditions(sorted(names), record.usual_pace(session, self._running))

    def open(self, session: Session, turn: Turn, sides: Iterable[Side]) -> Opened:
        """Add an answer to be written for each side, and say what to ask it.

        Raises:
            WrongState: The trial was begun with other models.
        """
        trial, seed = turn.trial, secrets.randbits(31)
        if trial.assignment is not None and trial.assignment.session is not None:
            questions = questions_of(session, turn, sides, self._running)
            return self.view_of(trial), questions
        answers = [record.open_answer(turn, side, self._on(trial, side), seed) for side in sides]
        session.flush()
        return self.view_of(trial), [
            Question(
                side=answer.side,
                answer_id=answer.id,
                chat_model=(chat_model := self._running[answer.model_key]),
                messages=record.history(trial, answer.side),
                sampling=replace(chat_model.model.defaults, seed=seed),
            )
            for answer in answers
        ]

    def _on(self, trial: Trial, side: Side) -> ChatModel:
        key = trial.model_on(side)
        if key not in self._running:
            raise WrongState("other_pair", "This trial was begun with other models.")
        return self._running[key]
