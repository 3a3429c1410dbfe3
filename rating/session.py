"""Runs trials: opens a turn, has both models answer it, records the truth, takes the rating.

`Panel` is what the pages and the API call. Each step is checked against the database, whatever the
page shows; each change is one transaction, finished before the rater is told. How an answer is
paced and masked is `run`'s, what is written `record`'s, what may be seen `trial`'s.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from backends.catalog import Model
from db import (
    Database,
    Language,
    SessionState,
    Side,
    Trial,
    TrialState,
    queries,
    session_queries,
    utc_now,
)
from rating import prompt_sets, record
from rating.answer_cache import AnswerCache
from rating.answering import Answering, Opened
from rating.cast import Cast
from rating.entries import clean_text, is_older, parse_draft, parse_rating
from rating.errors import BadPrompt, PairInUse, TrialNotFound, WrongState
from rating.prompt_sets import PromptSet
from rating.run import ChatModel, Outcome, Question, Source, TurnRun, ask_model
from rating.sessions import giving
from rating.sessions.standing import Standing, standing_of
from rating.trial import TrialView, view_of

PROMPT_LIMIT = prompt_sets.TURN_LIMIT
"""Longest prompt, in characters; what the models' contexts allow is often less."""

IN_USE_MIN = 30
"""How long an unrated trial keeps its models: a rater may read and think, but doesn't come back
from a longer break to a conversation that can be gone on with only by chance."""

T = TypeVar("T")


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
        measured: Callable[[], bool] = lambda: False,
    ) -> None:
        """Make ready for trials.

        Args:
            database: Where they are kept.
            models: In any order: which one goes to which side is drawn for each trial.
            blind: Whether new trials are.
            cache: Answers that may be given again; None where every answer is a new one.
            source: Gives the others.
            prompt_set: Of what prompts are suggested; otherwise of the one that comes with Twopane.
            measured: Whether some process is measuring on this machine now.
        """
        self._database = database
        self._blind = blind
        self._cache = cache
        self._own_source = source
        self._prompt_set = prompt_set
        self._measured = measured
        self._cast = Cast(models)
        self._pause: Callable[[], WrongState] | None = None
        self._answering = Answering(
            self._make_run, self._record, self._keep, lambda: self._pause is not None
        )
        self._withdrawn: set[str] = set()  # turns that were too long, until somebody is told

    @property
    def blind(self) -> bool:
        """Whether new trials are blind."""
        return self._blind

    @property
    def models(self) -> tuple[Model, ...]:
        """The models of the pair, in the order of their keys."""
        return self._cast.models

    def suggested(self, language: Language) -> Sequence[str]:
        """Return prompts that a reader of `language` may want to ask."""
        return prompt_sets.suggested(language, self._prompt_set)

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
            self._cast = Cast(await exchange())
        finally:
            self.resume()

    @property
    def waits_for(self) -> WrongState | None:
        """What refuses those who want to begin or ask a trial now, if anything does."""
        if self._pause:
            return self._pause()
        return measuring() if self._measured() else None

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
        pair = self._cast.pair
        recent = await self._read(lambda session: queries.unrated_since(session, pair, since))
        if count := len(self._answering.trials.union(recent)):
            raise PairInUse(count, IN_USE_MIN)

    async def close(self) -> None:
        """Stop what is being answered and record it."""
        await self._answering.close()

    async def current(self, visitor: Visitor) -> TrialView | None:
        """Return the trial the rater was at, as it stands; None if there is none."""
        await self._reveal_what_is_over(visitor)

        def load(session: Session) -> TrialView | None:
            trial = queries.latest_trial(session, visitor.id)
            return None if trial is None else self._cast.view_of(trial)

        view = await self._read(load)
        return (
            None if view is None else self._answering.as_shown(await self._settled(visitor, view))
        )

    async def is_blinded(self, visitor: Visitor) -> bool:
        """Whether the rater has had answers and must not learn yet who gave them.

        In a rating session that is so from the first one until they have rated all of theirs.
        """

        def blinded(session: Session) -> bool:
            return queries.has_hidden_answers(session, visitor.id)

        if not await self._read(blinded):
            return False
        await self._reveal_what_is_over(visitor)
        return await self._read(blinded)

    async def standing(self, visitor: Visitor) -> Standing | None:
        """Return how far the rater is in the rating session that is on.

        Where none is, in the closed one that gave their last trial; None without either.
        """
        await self._reveal_what_is_over(visitor)

        def load(session: Session) -> Standing | None:
            found = giving.current_session(session, self._cast.keys)
            if found is None:
                found = session_queries.last_session(session, visitor.id)
                if found is None or found.state is not SessionState.CLOSED:
                    return None
            return standing_of(session, found, visitor.id, self._cast.title)

        return await self._read(load)

    async def new_trial(self, visitor: Visitor) -> TrialView:
        """Begin a trial; the one before it is abandoned unless it was rated.

        In a rating session it is the one that the session gives next, or that the rater is at.

        Raises:
            NothingToRate: The session has nothing for this rater, or not now.
            WrongState: The models are being exchanged, or measured.
        """
        self._refuse_while_paused()
        before = await self.current(visitor)

        def begin(session: Session) -> Trial:
            if found := giving.current_session(session, self._cast.keys):
                return giving.give(session, found.id, visitor.id, visitor.language)
            return record.begin_trial(
                session, visitor.id, visitor.language, self._cast.pair, blind=self._blind
            )

        view = await self._write(lambda session: self._cast.view_of(begin(session)))
        if before is not None and before.id != view.id:
            self._answering.stop(before.id)
        return self._answering.as_shown(await self._settled(visitor, view))

    async def ask(self, visitor: Visitor, trial_id: str | None, prompt: str) -> TrialView:
        """Put the next prompt to both models and return at once; `watch` follows the answers.

        Without `trial_id` a new trial is begun; also for one that nothing was asked in before its
        models were exchanged. In a rating session the prompt is the session's: `prompt` is empty or
        the same. Further turns of its script then follow by themselves.

        Raises:
            BadPrompt: Nothing to ask, too long, or not the session's; the trial is as it was.
            NothingToRate: The session has nothing for this rater, or not now.
            TrialError: The trial can't be asked now.
        """
        given = await self._is_given(visitor, trial_id)
        prompt = _cleaned(prompt) if given else _checked_prompt(prompt)
        if trial_id is None or await self._is_outdated(visitor, trial_id):
            if given and prompt:
                raise giving.prompt_is_given()
            trial_id = (await self.new_trial(visitor)).id

        def open_turn(session: Session) -> Opened:
            trial = _load(session, visitor, trial_id, for_update=True)
            if trial.assignment is not None and trial.assignment.session is not None:
                due = giving.check_turn(trial, prompt)
                turn = record.open_turn(trial, due, trial.assignment.prompt_id)
            else:
                turn = record.open_turn(trial, prompt, prompt_sets.prompt_id(prompt))
            return self._cast.open(session, turn, Side)

        return await self._start(trial_id, open_turn)

    async def _is_given(self, visitor: Visitor, trial_id: str | None) -> bool:
        """Whether a rating session gives the prompt: of this trial, or of the one to be begun."""

        def given(session: Session) -> bool:
            trial = None if trial_id is None else _load(session, visitor, trial_id)
            if trial is not None and (trial.turns or trial.assignment is not None):
                return trial.assignment is not None
            return giving.current_session(session, self._cast.keys) is not None

        return await self._read(given)

    async def retry(self, visitor: Visitor, trial_id: str, sides: Iterable[Side]) -> TrialView:
        """Ask the sides again that failed or were stopped, and return at once.

        Raises:
            TrialError: None of `sides` has to be asked again, or not now.
        """
        wanted = set(sides)

        def open_again(session: Session) -> Opened:
            trial = _load(session, visitor, trial_id, for_update=True)
            record.close_interrupted(trial)  # nobody writes them: the trial is claimed by now
            possible = [side for side in view_of(trial).to_retry if side in wanted]
            if not possible:
                raise WrongState("nothing_to_retry", "No side has to be asked again.")
            return self._cast.open(session, trial.turns[-1], possible)

        return await self._start(trial_id, open_again)

    async def watch(self, visitor: Visitor, trial_id: str) -> AsyncGenerator[TrialView, None]:
        """Yield the trial as it may be shown now, and go on while it is being answered.

        Raises:
            BadPrompt: The turn was too long for a model and has been taken back.
        """
        async with aclosing(
            self._answering.watch(trial_id, partial(self._view, visitor, trial_id))
        ) as views:
            async for view in views:
                yield view
        if trial_id in self._withdrawn:
            self._withdrawn.discard(trial_id)
            raise self._too_long(view)

    def _too_long(self, view: TrialView) -> BadPrompt:
        if view.session is not None:
            return BadPrompt(
                "given_prompt_too_long",
                "This prompt is too long for one of the models and is left out. Go on to the next.",
            )
        return BadPrompt(
            "conversation_too_long",
            "That is too long for one of the models: shorten the prompt or begin a new trial.",
        )

    async def stop(self, visitor: Visitor, trial_id: str) -> None:
        """End the answers that are being written; does nothing when there are none."""
        await self._read(lambda session: _load(session, visitor, trial_id).id)
        self._answering.stop(trial_id)

    async def save_draft(self, visitor: Visitor, trial_id: str, draft: Any) -> None:
        """Keep what the rater has entered so far; ignored once the rating is saved."""
        entered = parse_draft(draft)

        def save(session: Session) -> None:
            trial = self._own_trial(session, visitor, trial_id)
            if trial.rating is None and not is_older(entered, trial.draft):
                trial.draft = entered

        await self._write(save)

    async def rate(self, visitor: Visitor, trial_id: str, payload: Any) -> TrialView:
        """Save the rating, then tell who was who; in a rating session only after the last one.

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
            given_by = trial.assignment.session if trial.assignment else None
            asks_guess = given_by is not None and given_by.asks_guess
            entered = parse_rating(payload, len(trial.turns), asks_guess=asks_guess)
            record.save_rating(trial, entered)

        await self._write(save)
        return await self._view(visitor, trial_id)

    async def _is_outdated(self, visitor: Visitor, trial_id: str) -> bool:
        def outdated(session: Session) -> bool:
            trial = _load(session, visitor, trial_id)
            unasked = trial.state is TrialState.DRAFTING and not trial.turns
            if trial.assignment is None and giving.current_session(session, self._cast.keys):
                return unasked
            return unasked and self._cast.has_other_models(trial)

        return await self._read(outdated)

    # --- one turn -------------------------------------------------------------------------------

    async def _start(self, trial_id: str, opening: Callable[[Session], Opened]) -> TrialView:
        """Open answers in the database, then have them written by a task of their own."""
        if not _is_id(trial_id):
            raise TrialNotFound
        self._refuse_while_paused()
        if trial_id in self._answering:
            raise WrongState("answering", "This trial is being answered already.")
        self._withdrawn.discard(trial_id)
        return await self._answering.start(trial_id, lambda: self._write(opening))

    async def _make_run(self, view: TrialView, questions: list[Question]) -> TurnRun:
        conditions = await self._read(lambda session: self._cast.conditions(session, view))
        return TurnRun(
            questions,
            hidden_names=conditions.names if view.blind else None,
            reference=conditions.reference if view.blind else None,
            source=self._source(view),
            at_once=conditions.at_once,
        )

    def _source(self, view: TrialView) -> Source:
        """Say where the answers of this trial come from, unless its rating session says it."""
        if self._cache is None or (view.blind and not self._cache.blind):
            return self._own_source
        return partial(self._cache.ask, blind=view.blind)

    async def _record(
        self, trial_id: str, run: TurnRun, outcomes: Sequence[Outcome]
    ) -> Opened | None:
        """Write down how a turn ended; open the next one where a session's script goes on."""

        def close(session: Session) -> Opened | None:
            trial = (record.withdraw if run.too_long else record.close_answers)(session, outcomes)
            if trial.assignment is None or trial.assignment.session is None:
                return None
            if run.too_long:
                giving.give_up(trial)
            elif trial.state is TrialState.RATEABLE and (due := giving.due_turn(trial)):
                turn = record.open_turn(trial, due, trial.assignment.prompt_id)
                return self._cast.open(session, turn, Side)
            return None

        opened = await self._write(close)
        if run.too_long:
            self._withdrawn.add(trial_id)
        return opened

    async def _keep(self, outcomes: Sequence[Outcome]) -> None:
        if self._cache is not None:
            await self._cache.keep(outcomes)

    async def _view(self, visitor: Visitor, trial_id: str) -> TrialView:
        """Return the rater's trial as the database has it."""
        await self._reveal_what_is_over(visitor)

        def load(session: Session) -> TrialView:
            return self._cast.view_of(_load(session, visitor, trial_id))

        view = await self._read(load)
        return await self._settled(visitor, view)

    async def _settled(self, visitor: Visitor, view: TrialView) -> TrialView:
        """Finish what is left to do: answers that a crash left open, a free trial not revealed.

        That something is left is rare, and a look that only reads waits for nobody.
        """
        interrupted = view.streaming and view.id not in self._answering
        rated = view.state is TrialState.RATED and view.session is None
        if not interrupted and not rated:
            return view

        def settle(session: Session) -> TrialView:
            trial = self._own_trial(session, visitor, view.id)
            if trial.assignment is None or trial.assignment.session is None:
                record.reveal(trial)
            return self._cast.view_of(trial)

        return await self._write(settle)

    async def _reveal_what_is_over(self, visitor: Visitor) -> None:
        """Have each rating session tell who was who once its rater is through with it.

        It may be over without them: it is closed, or others rate what was left.
        """
        if await self._read(lambda session: giving.to_reveal(session, visitor.id)):
            await self._write(lambda session: giving.reveal_all(session, visitor.id))

    # --- inside a transaction -------------------------------------------------------------------

    def _own_trial(self, session: Session, visitor: Visitor, trial_id: str) -> Trial:
        """Return the rater's trial, locked for what is to be written."""
        trial = _load(session, visitor, trial_id, for_update=True)
        if trial.id not in self._answering:
            record.close_interrupted(trial)
        return trial

    # --- threads --------------------------------------------------------------------------------

    async def _read(self, work: Callable[[Session], T]) -> T:
        return await asyncio.to_thread(_within, self._database.read, work)

    async def _write(self, work: Callable[[Session], T]) -> T:
        return await asyncio.to_thread(_within, self._database.write, work)


def measuring(words: str = "") -> WrongState:
    """Return what refuses a rater while models are measured; `words` say until when."""
    return WrongState(
        "measuring", f"The models are being measured. Ask again when that has ended{words}."
    )


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


def _cleaned(entered: Any) -> str:
    return clean_text(entered).strip() if isinstance(entered, str) else ""


def _checked_prompt(entered: Any) -> str:
    prompt = _cleaned(entered)
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
