"""Runs trials: opens a turn, has both models answer it, records the truth, takes the rating.

`Panel` is what the pages and the API call. Each step is checked against the database, whatever the
page shows; each change is one transaction, finished before the rater is told. How an answer is
paced and masked is `run`'s, what is written `record`'s, what may be seen `trial`'s.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from backends.catalog import Model
from db import Database, Language, Side, Trial, TrialState, Turn, queries, utc_now
from rating import prompt_sets, record
from rating.answer_cache import AnswerCache
from rating.assignment import pair_key
from rating.entries import clean_text, is_older, parse_draft, parse_rating
from rating.errors import BadPrompt, PairInUse, TrialNotFound, WrongState
from rating.prompt_sets import PromptSet
from rating.run import (
    FLUSH_INTERVAL_S,
    ChatModel,
    Outcome,
    Question,
    Source,
    TurnRun,
    ask_model,
)
from rating.trial import TrialView, view_of

logger = logging.getLogger(__name__)

PROMPT_LIMIT = prompt_sets.TURN_LIMIT
"""Longest prompt, in characters; what the models' contexts allow is often less."""

ABANDON_AFTER_S = 60.0
"""How long answers go on when nobody watches: long enough for a reload or a lost connection."""

IN_USE_MIN = 30
"""How long an unrated trial keeps its models: a rater may read and think, but doesn't come back
from a longer break to a conversation that can be gone on with only by chance."""

_HEARTBEAT_S = 0.5

T = TypeVar("T")
_Opened = tuple[TrialView, list[Question]]


@dataclass(frozen=True)
class Visitor:
    """Who is asking: the rater's id and the language of the page."""

    id: str
    language: Language


class Panel:
    """Two models, and the trials in which raters compare them."""

    def __init__(
        self,
        database: Database,
        models: tuple[ChatModel, ChatModel],
        *,
        blind: bool,
        cache: AnswerCache | None = None,
        source: Source = ask_model,
        prompt_set: PromptSet | None = None,
    ) -> None:
        """Make ready for trials.

        Args:
            database: Where they are kept.
            models: In any order: which one goes to which side is drawn for each trial.
            blind: Whether new trials are.
            cache: Answers that may be given again; None where every answer is a new one.
            source: Gives the others.
            prompt_set: Of what prompts are suggested; otherwise of the one that comes with Twopane.
        """
        self._database = database
        self._blind = blind
        self._cache = cache
        self._own_source = source
        self._prompt_set = prompt_set
        self._use(models)
        self._pause: Callable[[], WrongState] | None = None
        self._answering: set[str] = set()  # from before the turn is opened to after it is recorded
        self._runs: dict[str, TurnRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchers: dict[str, int] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._withdrawn: set[str] = set()  # turns that were too long, until somebody is told

    @property
    def blind(self) -> bool:
        """Whether new trials are blind."""
        return self._blind

    @property
    def models(self) -> tuple[Model, ...]:
        """The models of the pair, in the order of their keys."""
        return tuple(self._models[key].model for key in sorted(self._models))

    def suggested(self, language: Language) -> Sequence[str]:
        """Return prompts that a reader of `language` may want to ask."""
        return prompt_sets.suggested(language, self._prompt_set)

    def _use(self, models: tuple[ChatModel, ChatModel]) -> None:
        self._models = {chat_model.model.key: chat_model for chat_model in models}
        self._pair = pair_key(*self._models)

    async def change_models(
        self, exchange: Callable[[], Awaitable[tuple[ChatModel, ChatModel]]]
    ) -> None:
        """Have `exchange` put other models in the place of these, and ask those from then on.

        Meanwhile no trial is begun and none is asked. Trials of the old pair stay as they are.
        Whatever `exchange` raises leaves the panel with the models it has.

        Raises:
            PairInUse: Somebody is at a trial of these models.
            WrongState: They are being exchanged already, or measured.
        """
        await self.pause(_exchanging)
        try:
            self._use(await exchange())
        finally:
            self.resume()

    @property
    def waits_for(self) -> WrongState | None:
        """What refuses those who want to begin or ask a trial now, if anything does."""
        return self._pause() if self._pause else None

    async def pause(self, reason: Callable[[], WrongState], *, force: bool = False) -> None:
        """Let no trial begin nor be asked until `resume`; `reason` says why, each time anew.

        With `force` what is being answered is stopped and recorded, and who is at a trial waits.

        Raises:
            PairInUse: Somebody is at a trial of these models, and nothing is forced.
            WrongState: The panel is paused already.
        """
        self._refuse_while_paused()
        self._pause = reason
        try:
            await (self.close() if force else self._refuse_while_in_use())
        except BaseException:
            self.resume()
            raise

    def resume(self) -> None:
        """Go on after a pause."""
        self._pause = None

    def _refuse_while_paused(self) -> None:
        if refusal := self.waits_for:
            raise refusal

    async def _refuse_while_in_use(self) -> None:
        since = utc_now() - timedelta(minutes=IN_USE_MIN)
        recent = await self._read(lambda session: queries.unrated_since(session, self._pair, since))
        if count := len(self._answering.union(recent)):
            raise PairInUse(count, IN_USE_MIN)

    async def close(self) -> None:
        """Stop what is being answered and record it."""
        for run in self._runs.values():
            run.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def current(self, visitor: Visitor) -> TrialView | None:
        """Return the trial the rater was at, as it stands; None if there is none."""

        def load(session: Session) -> TrialView | None:
            trial = queries.latest_trial(session, visitor.id)
            return None if trial is None else self._view_of(trial)

        view = await self._read(load)
        return None if view is None else self._as_shown(await self._settled(visitor, view))

    async def is_blinded(self, visitor: Visitor) -> bool:
        """Whether the rater has answers on the screen and must not learn who gave them."""
        view = await self.current(visitor)
        return view is not None and bool(view.turns) and view.blind and view.rating is None

    async def new_trial(self, visitor: Visitor) -> TrialView:
        """Begin a trial; the one before it is abandoned unless it was rated.

        Raises:
            WrongState: The models are being exchanged, or measured.
        """
        self._refuse_while_paused()
        before = await self.current(visitor)
        if before is not None and before.id in self._runs:
            self._runs[before.id].stop()
        return await self._write(
            lambda session: view_of(
                record.begin_trial(
                    session, visitor.id, visitor.language, self._pair, blind=self._blind
                )
            )
        )

    async def ask(self, visitor: Visitor, trial_id: str | None, prompt: str) -> TrialView:
        """Put the next prompt to both models and return at once; `watch` follows the answers.

        Without `trial_id` a new trial is begun; also for one that nothing was asked in before its
        models were exchanged.

        Raises:
            BadPrompt: Nothing to ask, or too long; the trial is as it was.
            TrialError: The trial can't be asked now.
        """
        prompt = _checked_prompt(prompt)
        if trial_id is None or await self._is_outdated(visitor, trial_id):
            trial_id = (await self.new_trial(visitor)).id

        def open_turn(session: Session) -> _Opened:
            trial = _load(session, visitor, trial_id, for_update=True)
            turn = record.open_turn(trial, prompt, prompt_sets.prompt_id(prompt))
            return self._open(session, turn, Side)

        return await self._start(trial_id, open_turn)

    async def retry(self, visitor: Visitor, trial_id: str, sides: Iterable[Side]) -> TrialView:
        """Ask the sides again that failed or were stopped, and return at once.

        Raises:
            TrialError: None of `sides` has to be asked again, or not now.
        """
        wanted = set(sides)

        def open_again(session: Session) -> _Opened:
            trial = _load(session, visitor, trial_id, for_update=True)
            record.close_interrupted(trial)  # nobody writes them: the trial is claimed by now
            possible = [side for side in view_of(trial).to_retry if side in wanted]
            if not possible:
                raise WrongState("nothing_to_retry", "No side has to be asked again.")
            return self._open(session, trial.turns[-1], possible)

        return await self._start(trial_id, open_again)

    async def watch(self, visitor: Visitor, trial_id: str) -> AsyncGenerator[TrialView, None]:
        """Yield the trial as it may be shown now, and go on while it is being answered.

        Raises:
            BadPrompt: The turn was too long for a model and has been taken back.
        """
        view = await self._view(visitor, trial_id)
        run = self._runs.get(trial_id)
        if run is not None:
            async with aclosing(self._frames(view, run)) as frames:
                async for shown in frames:
                    yield shown
        yield self._as_shown(await self._view(visitor, trial_id))
        if trial_id in self._withdrawn or (run is not None and run.too_long):
            self._withdrawn.discard(trial_id)
            raise BadPrompt(
                "conversation_too_long",
                "That is too long for one of the models: shorten the prompt or begin a new trial.",
            )

    async def stop(self, visitor: Visitor, trial_id: str) -> None:
        """End the answers that are being written; does nothing when there are none."""
        await self._read(lambda session: _load(session, visitor, trial_id).id)
        if run := self._runs.get(trial_id):
            run.stop()

    async def save_draft(self, visitor: Visitor, trial_id: str, draft: Any) -> None:
        """Keep what the rater has entered so far; ignored once the rating is saved."""
        entered = parse_draft(draft)

        def save(session: Session) -> None:
            trial = self._own_trial(session, visitor, trial_id)
            if trial.rating is None and not is_older(entered, trial.draft):
                trial.draft = entered

        await self._write(save)

    async def rate(self, visitor: Visitor, trial_id: str, payload: Any) -> TrialView:
        """Save the rating, then tell who was who.

        The same rating sent twice is stored once. When this returns, the rating is on the disk.

        Raises:
            BadRating: Entries are missing or not allowed.
            WrongState: The trial can't be rated now, or was rated differently before.
        """

        def save(session: Session) -> None:
            trial = self._own_trial(session, visitor, trial_id)
            if trial.state is TrialState.ABANDONED:
                raise WrongState("abandoned", "This trial was left for a new one.")
            if trial.rating is None and trial.state is not TrialState.RATEABLE:
                raise WrongState("not_rateable", "Both answers must be complete before a rating.")
            record.save_rating(trial, parse_rating(payload, len(trial.turns)))

        await self._write(save)
        return await self._view(visitor, trial_id)

    async def _is_outdated(self, visitor: Visitor, trial_id: str) -> bool:
        def outdated(session: Session) -> bool:
            trial = _load(session, visitor, trial_id)
            unasked = trial.state is TrialState.DRAFTING and not trial.turns
            return unasked and trial.pair != self._pair

        return await self._read(outdated)

    # --- one turn -------------------------------------------------------------------------------

    async def _start(self, trial_id: str, opening: Callable[[Session], _Opened]) -> TrialView:
        """Open answers in the database, then have them written by a task of their own."""
        if not _is_id(trial_id):
            raise TrialNotFound
        self._refuse_while_paused()
        if trial_id in self._answering:
            raise WrongState("answering", "This trial is being answered already.")
        self._answering.add(trial_id)
        self._withdrawn.discard(trial_id)
        try:
            view, questions = await self._write(opening)
            run = await self._make_run(view, questions)
        except BaseException:
            self._answering.discard(trial_id)
            raise
        self._runs[trial_id] = run
        task = asyncio.create_task(self._drive(trial_id, run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._stop_if_left(trial_id)
        return self._as_shown(view)

    async def _make_run(self, view: TrialView, questions: list[Question]) -> TurnRun:
        source = self._source(view)
        if not view.blind:
            return TurnRun(questions, hidden_names=None, reference=None, source=source)
        # Names of both models on both sides: a name left standing would tell as much.
        names = {name for model in self.models for name in model.names}
        reference = await self._read(lambda session: record.usual_pace(session, self._models))
        return TurnRun(questions, hidden_names=sorted(names), reference=reference, source=source)

    def _source(self, view: TrialView) -> Source:
        """Say where the answers of this trial come from.

        The one place that decides it: a trial of answers made beforehand would have its own.
        """
        if self._cache is None or (view.blind and not self._cache.blind):
            return self._own_source
        return partial(self._cache.ask, blind=view.blind)

    async def _drive(self, trial_id: str, run: TurnRun) -> None:
        """See one run through: the answers, then the record, then the panel unlocks."""
        outcomes: Sequence[Outcome] = ()
        try:
            outcomes = await run.run()
            close = record.withdraw if run.too_long else record.close_answers
            await self._write(lambda session: close(session, outcomes))
            if run.too_long:
                self._withdrawn.add(trial_id)
        except Exception:
            # Whatever it was: the next look at the trial finds the answers interrupted.
            logger.exception("what was answered in trial %s could not be recorded", trial_id)
        finally:
            del self._runs[trial_id]
            self._answering.discard(trial_id)
            self._stay(trial_id)
        if self._cache is not None:
            await self._cache.keep(outcomes)

    async def _frames(self, view: TrialView, run: TurnRun) -> AsyncGenerator[TrialView, None]:
        """Yield `view` with what may be shown of its answers, until `run` is recorded."""
        self._watchers[view.id] = self._watchers.get(view.id, 0) + 1
        self._stay(view.id)
        try:
            shown, quiet_s = None, 0.0
            while self._runs.get(view.id) is run:
                now = self._as_shown(view)
                if now != shown or quiet_s >= _HEARTBEAT_S:  # a closed tab is noticed at a yield
                    yield now
                    shown, quiet_s = now, 0.0
                await asyncio.sleep(FLUSH_INTERVAL_S)
                quiet_s += FLUSH_INTERVAL_S
        finally:
            self._leave(view.id)

    def _leave(self, trial_id: str) -> None:
        self._watchers[trial_id] -= 1
        if not self._watchers[trial_id]:
            del self._watchers[trial_id]
            self._stop_if_left(trial_id)

    def _stop_if_left(self, trial_id: str) -> None:
        """End the answers unless somebody comes to watch them in a while."""
        self._stay(trial_id)
        if run := self._runs.get(trial_id):
            loop = asyncio.get_running_loop()
            self._leaving[trial_id] = loop.call_later(ABANDON_AFTER_S, run.stop)

    def _stay(self, trial_id: str) -> None:
        if timer := self._leaving.pop(trial_id, None):
            timer.cancel()

    def _as_shown(self, view: TrialView) -> TrialView:
        """Return `view` with what is on the screen of answers that are still being written.

        A view may be older than the run, or newer than its record: then it stands as it is.
        """
        run = self._runs.get(view.id)
        return view.with_last_answers(run.answers()) if run and view.streaming else view

    async def _view(self, visitor: Visitor, trial_id: str) -> TrialView:
        """Return the rater's trial as the database has it."""
        view = await self._read(lambda session: self._view_of(_load(session, visitor, trial_id)))
        return await self._settled(visitor, view)

    async def _settled(self, visitor: Visitor, view: TrialView) -> TrialView:
        """Finish what a crash may have left half done: open answers, a rating not revealed.

        That is rare, and a look that only reads waits for nobody.
        """
        interrupted = view.streaming and view.id not in self._answering
        if not interrupted and view.state is not TrialState.RATED:
            return view

        def settle(session: Session) -> TrialView:
            trial = self._own_trial(session, visitor, view.id)
            record.reveal(trial)
            return self._view_of(trial)

        return await self._write(settle)

    def _view_of(self, trial: Trial) -> TrialView:
        return replace(view_of(trial), other_models=trial.pair != self._pair)

    # --- inside a transaction -------------------------------------------------------------------

    def _own_trial(self, session: Session, visitor: Visitor, trial_id: str) -> Trial:
        """Return the rater's trial, locked for what is to be written."""
        trial = _load(session, visitor, trial_id, for_update=True)
        if trial.id not in self._answering:
            record.close_interrupted(trial)
        return trial

    def _open(self, session: Session, turn: Turn, sides: Iterable[Side]) -> _Opened:
        """Add an answer to be written for each side, and say what to ask it."""
        trial, seed = turn.trial, secrets.randbits(31)
        answers = [record.open_answer(turn, side, self._on(trial, side), seed) for side in sides]
        session.flush()
        return view_of(trial), [
            Question(
                side=answer.side,
                answer_id=answer.id,
                chat_model=(chat_model := self._models[answer.model_key]),
                messages=record.history(trial, answer.side),
                sampling=replace(chat_model.model.defaults, seed=seed),
            )
            for answer in answers
        ]

    def _on(self, trial: Trial, side: Side) -> ChatModel:
        key = trial.model_on(side)
        if key not in self._models:
            raise WrongState("other_pair", "This trial was begun with other models.")
        return self._models[key]

    # --- threads --------------------------------------------------------------------------------

    async def _read(self, work: Callable[[Session], T]) -> T:
        return await asyncio.to_thread(_within, self._database.read, work)

    async def _write(self, work: Callable[[Session], T]) -> T:
        return await asyncio.to_thread(_within, self._database.write, work)


def _exchanging() -> WrongState:
    return WrongState("pair_changing", "The models are being exchanged. Try again in a moment.")


def _within(
    session_of: Callable[[], AbstractContextManager[Session]], work: Callable[[Session], T]
) -> T:
    with session_of() as session:
        return work(session)


def _load(session: Session, visitor: Visitor, trial_id: str, *, for_update: bool = False) -> Trial:
    trial = None
    if _is_id(trial_id):
        trial = queries.load_trial(session, trial_id, visitor.id, for_update=for_update)
    if trial is None:
        raise TrialNotFound
    return trial


def _is_id(trial_id: Any) -> bool:
    """Whether it can be looked for at all: a list, a NUL or half a character can't."""
    return isinstance(trial_id, str) and trial_id.isascii() and trial_id.isalnum()


def _checked_prompt(entered: Any) -> str:
    prompt = clean_text(entered).strip() if isinstance(entered, str) else ""
    if not prompt:
        raise BadPrompt("prompt_empty", "Type a prompt first.")
    if len(prompt) > PROMPT_LIMIT:
        raise BadPrompt(
            "prompt_too_long",
            f"The prompt has {len(prompt)} characters; {PROMPT_LIMIT} are possible.",
            length=len(prompt),
            limit=PROMPT_LIMIT,
        )
    return prompt
