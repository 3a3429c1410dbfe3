"""What a trial leaves in the database: turns and answers opened, closed, withdrawn; ratings saved.

Each function works inside a transaction that `session` opens and commits. Nothing here waits for a
model or knows what is on a screen.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from sqlalchemy.orm import Session

from backends.client import Message
from db import (
    Answer,
    FinishReason,
    Language,
    Rating,
    Score,
    Side,
    Trial,
    TrialState,
    Turn,
    queries,
    utc_now,
)
from rating.assignment import swapped
from rating.blinding import Pace
from rating.errors import WrongState
from rating.run import ChatModel, Outcome
from rating.trial import RatingView, latest, move, self_naming_flag, view_of

_COMPLETE = (FinishReason.STOP, FinishReason.LENGTH)
TIMED_ANSWERS = 20
"""From how many answers of a model its usual pace is taken."""

_SHORTEST_S = 0.1


def begin_trial(
    session: Session, rater_id: str, language: Language, pair: str, *, blind: bool
) -> Trial:
    """Begin a trial of `pair`, abandoning an unrated one; an empty one of the kind is taken up."""
    rater = queries.ensure_rater(session, rater_id, language)
    before = queries.latest_trial(session, rater_id, for_update=True)
    if before is not None and before.rating is None:
        same = (before.pair, before.blind) == (pair, blind)
        if same and not before.turns and before.assignment is None:
            before.language = language
            return before
        move(before, TrialState.ABANDONED)
    left, right = pair.split("|")
    if swapped(rater.side_seed, pair, queries.count_rated(session, rater.id, pair)):
        left, right = right, left
    trial = Trial(
        rater_id=rater.id,
        pair=pair,
        left_model=left,
        right_model=right,
        blind=blind,
        language=language,
        turns=[],
        rating=None,
        assignment=None,
    )
    session.add(trial)
    session.flush()
    return trial


def open_turn(trial: Trial, prompt: str, prompt_id: str | None) -> Turn:
    """Add the next turn to a trial that may be asked now."""
    move(trial, TrialState.ANSWERING)
    turn = Turn(position=len(trial.turns) + 1, prompt=prompt, prompt_id=prompt_id, answers=[])
    trial.turns.append(turn)
    return turn


def open_answer(turn: Turn, side: Side, chat_model: ChatModel, seed: int) -> Answer:
    """Add an answer of `side` to be written, a new attempt if there are earlier ones."""
    model = chat_model.model
    answer = Answer(
        side=side,
        attempt=1 + sum(answer.side is side for answer in turn.answers),
        seed=seed,
        settings=asdict(model.defaults) | {"seed": seed},
        model_key=model.key,
        model_revision=model.revision,
        precision=chat_model.precision,
    )
    turn.answers.append(answer)
    return answer


def history(trial: Trial, side: Side) -> list[Message]:
    """Return the conversation as `side`'s model knows it: its own words, unmasked."""
    messages = []
    for turn in trial.turns[:-1]:
        own = latest(turn.answers, side).raw_text
        messages += [Message("user", turn.prompt), Message("assistant", own)]
    return [*messages, Message("user", trial.turns[-1].prompt)]


def close_answers(session: Session, outcomes: Sequence[Outcome]) -> Trial:
    """Write how the answers of one turn ended, and return the trial.

    It is rateable if both sides are complete.
    """
    answers = [session.get_one(Answer, outcome.answer_id) for outcome in outcomes]
    turn = answers[0].turn
    trial = _locked(session, turn.trial)
    for answer, outcome in zip(answers, outcomes, strict=True):
        _close(answer, outcome)
        flag = self_naming_flag(outcome.side)
        if outcome.masked and flag not in trial.flags:
            trial.flags.append(flag)
    complete = all(latest(turn.answers, side).finish_reason in _COMPLETE for side in Side)
    if complete and trial.state is TrialState.ANSWERING:
        move(trial, TrialState.RATEABLE)
    return trial


def _locked(session: Session, trial: Trial) -> Trial:
    """Wait for whoever looks at the trial now: it could take these answers for interrupted."""
    session.refresh(trial, with_for_update=True)
    return trial


def _close(answer: Answer, outcome: Outcome) -> None:
    answer.text, answer.raw_text = outcome.text, outcome.raw_text
    answer.finish_reason, answer.error = outcome.reason, outcome.error
    answer.prompt_tokens = outcome.timing.prompt_tokens
    answer.completion_tokens = outcome.timing.completion_tokens
    answer.first_token_s, answer.total_s = outcome.timing.first_token_s, outcome.timing.total_s
    if outcome.replay is not None:
        answer.cached, answer.seed = True, outcome.replay.seed
        answer.settings = answer.settings | {"seed": outcome.replay.seed}
    answer.finished_at = utc_now()


def withdraw(session: Session, outcomes: Sequence[Outcome]) -> Trial:
    """Take back a turn that was too long for a model, as if not asked; return the trial."""
    turn = session.get_one(Answer, outcomes[0].answer_id).turn
    trial = _locked(session, turn.trial)
    if trial.state is TrialState.ANSWERING:
        move(trial, TrialState.RATEABLE if turn.position > 1 else TrialState.DRAFTING)
    for answer in turn.answers:
        session.delete(answer)
    session.flush()
    session.delete(turn)
    return trial


def close_interrupted(trial: Trial) -> None:
    """End the answers that nobody is writing any more, since the app was stopped meanwhile."""
    for answer in trial.turns[-1].answers if trial.turns else []:
        if answer.finish_reason is None:
            answer.finish_reason, answer.error = FinishReason.FAILED, "interrupted"
            answer.finished_at = utc_now()


def save_rating(trial: Trial, entered: RatingView) -> None:
    """Add the rating to a rateable trial; the same one again changes nothing.

    Raises:
        WrongState: Not rateable now, or rated differently before.
    """
    saved = view_of(trial).rating
    if saved is not None:
        if saved == entered:
            return
        raise WrongState("already_final", "This trial was rated before, and that is final.")
    move(trial, TrialState.RATED)
    trial.rating = Rating(
        rater_id=trial.rater_id,
        preference=entered.preference,
        comment=entered.comment,
        guess=entered.guess,
        scores=[
            Score(side=side, dimension=dimension, score=score)
            for (side, dimension), score in entered.scores.items()
        ],
    )
    trial.draft = None


def reveal(trial: Trial) -> None:
    """Let a rated trial be known; from here on its rating can't change."""
    if trial.state is TrialState.RATED:
        move(trial, TrialState.REVEALED)
        trial.revealed_at = utc_now()


def usual_pace(session: Session, model_keys: Iterable[str]) -> Pace | None:
    """Return the slowest model's median pace over its last answers; None if one is unknown."""
    return slowest_pace([queries.recent_timings(session, key, TIMED_ANSWERS) for key in model_keys])


def slowest_pace(timings: Iterable[Sequence[tuple[int, float, float]]]) -> Pace | None:
    """Return the slowest of the median paces of each model's timings; None if it has none."""
    paces = [_pace(of_model) for of_model in timings]
    known = [pace for pace in paces if pace is not None]
    return Pace.slowest(known) if len(known) == len(paces) else None


def _pace(timings: Sequence[tuple[int, float, float]]) -> Pace | None:
    if not timings:
        return None
    paces = [pace_of(*one) for one in timings]
    return Pace(
        first_s=statistics.median(pace.first_s for pace in paces),
        chars_per_s=statistics.median(pace.chars_per_s for pace in paces),
    )


def pace_of(chars: int, first_s: float, total_s: float) -> Pace:
    """Return the pace of one answer; an answer that came at once took `_SHORTEST_S`."""
    return Pace(first_s, chars / max(total_s - first_s, _SHORTEST_S))
