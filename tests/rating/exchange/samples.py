"""Rated trials of every sort that an export may meet."""

from datetime import UTC, datetime, timedelta
from typing import Any

from db import (
    Assignment,
    Database,
    Dimension,
    FinishReason,
    Language,
    Preference,
    Rater,
    Score,
    Side,
    Trial,
    TrialKind,
    TrialState,
)
from rating.exchange import Format, Selection, export_bytes
from tests.db import rows

NOON = datetime(2026, 2, 28, 12, 0, 0, 123456, tzinfo=UTC)
TINY = ("tiny-chatglm", "tiny-qwen")


def rated(
    trial_id: str,
    *,
    minute: int = 0,
    prompts: tuple[str, ...] = ("你好",),
    answers: tuple[str, str] | None = ("Left.", "Right."),
    preference: Preference = Preference.LEFT,
    scores: tuple[int | None, int | None] = (4, 2),
    comment: str = "",
    prompt_id: str | None = None,
    guess: Side | None = None,
    flags: tuple[str, ...] = (),
    models: tuple[str, str] = TINY,
    **changes: Any,
) -> Trial:
    """A rated trial; `answers` of `models`, which are left and right, to every prompt."""
    moment = NOON + timedelta(minutes=minute)
    trial = rows.trial(
        id=trial_id,
        pair="|".join(sorted(models)),
        left_model=models[0],
        right_model=models[1],
        flags=list(flags),
        **{
            "state": TrialState.REVEALED,
            "created_at": moment - timedelta(minutes=5),
            "revealed_at": moment + timedelta(seconds=1),
        }
        | changes,
    )
    for position, prompt in enumerate(prompts, start=1):
        turn = rows.turn(trial=trial, position=position, prompt=prompt, prompt_id=prompt_id)
        for side, key, text in zip(Side, models, answers or (), strict=bool(answers)):
            rows.answer(turn=turn, side=side, attempt=1, model_key=key, raw_text=text, text=text)
    rows.rating(
        trial=trial,
        preference=preference,
        comment=comment,
        guess=guess,
        rated_at=moment,
        scores=[
            Score(side=side, dimension=key, score=score)
            for side, score in zip(Side, scores, strict=True)
            for key in Dimension
        ],
    )
    return trial


def store(database: Database, *trials: Any) -> None:
    with database.write() as session:
        session.add_all(trials)


def exported(database: Database, format_: Format = Format.CSV, **choice: Any) -> bytes:
    return export_bytes(database, format_, Selection(**choice))[1]


def store_varied(database: Database) -> None:
    """Store trials with all that files may stumble over."""
    ann, paper = Rater(language=Language.ZH), Rater(language=Language.EN, pseudonym="纸, 1")
    hard = '他说："好的, 再见"\n第二行\r\n,"quoted", =1+1 🙂 e\u0301 \u2028 \u00a0'
    retried = rated("b" * 32, minute=3, rater=ann, prompts=("一", "二，\n三", "四"), blind=False)
    turn = retried.turns[1]
    rows.answer(turn=turn, side=Side.LEFT, attempt=2, text="now", raw_text="now", cached=True)
    turn.answers[0].finish_reason = FinishReason.FAILED
    turn.answers[0].error = "interrupted"
    turn.answers[0].total_s = turn.answers[0].prompt_tokens = None
    masked = rated("masked", minute=1, rater=paper, flags=("self_naming_left",), comment=hard)
    masked.turns[0].answers[0].text = "我是█████"
    masked.turns[0].answers[0].raw_text = '我是 Qwen-7B\t"🙂"'
    original = rated("c" * 32, minute=2, prompt_id="greeting", scores=(None, 5))
    session = rows.rating_session(name="第一次")
    ann_rated: dict[str, Any] = {"rater": ann, "state": TrialState.RATED, "revealed_at": None}
    repeat = rated("repeat", minute=9, preference=Preference.BOTH_BAD, **ann_rated)
    attention = rated("attention", minute=9, preference=Preference.TIE, **ann_rated)
    regular = rated("regular", minute=9, guess=Side.RIGHT, models=TINY[::-1], **ann_rated)
    store(database, retried, masked, original)
    store(
        database,
        _assigned(original, session),
        _assigned(regular, session),
        _assigned(repeat, session, kind=TrialKind.REPEAT, repeat_of="c" * 32),
        _assigned(attention, session, kind=TrialKind.ATTENTION, better=Side.RIGHT.value),
        rated("unrated-not", comment=hard[::-1], prompts=(hard,), language=Language.EN),
        rows.trial(id="unrated", state=TrialState.RATEABLE),
    )


def _assigned(trial: Trial, session: Any, **changes: Any) -> Assignment:
    return rows.assignment(trial=trial, session=session, prompt_id="问候 greeting", **changes)
