"""What prompt sets and answer packs ask of the database, as functions of an open session.

Both are named by the hash of their content: what is stored under an id never changes. What a file
must be like is the rating domain's to say.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from db.session_tables import AnswerPack, PackedAnswer, PromptSet


def store_prompt_set(session: Session, prompt_set: PromptSet) -> None:
    """Add the set unless one of its id is there."""
    if session.get(PromptSet, prompt_set.id) is None:
        _add(session, prompt_set)


def load_prompt_set(session: Session, set_id: str) -> PromptSet | None:
    """Return the set of that id, if there is one."""
    return session.get(PromptSet, set_id)


def list_prompt_sets(session: Session) -> Sequence[PromptSet]:
    """Return all sets, the newest first."""
    return session.scalars(
        select(PromptSet).order_by(PromptSet.created_at.desc(), PromptSet.id)
    ).all()


def store_pack(session: Session, pack: AnswerPack, answers: Iterable[PackedAnswer]) -> None:
    """Add the pack with its answers unless one of its id is there; its prompt set must be."""
    if session.get(AnswerPack, pack.id) is None:
        _add(session, pack, *answers)


def load_pack(session: Session, pack_id: str) -> AnswerPack | None:
    """Return the pack of that id with its prompt set, if there is one."""
    query = (
        select(AnswerPack)
        .where(AnswerPack.id == pack_id)
        .options(joinedload(AnswerPack.prompt_set))
    )
    return session.scalars(query).one_or_none()


def load_answers(session: Session, pack_id: str) -> Sequence[PackedAnswer]:
    """Return all answers of the pack, in the order in which they were added."""
    query = select(PackedAnswer).where(PackedAnswer.pack_id == pack_id).order_by(PackedAnswer.id)
    return session.scalars(query).all()


def load_answer(
    session: Session, pack_id: str, prompt_id: str, position: int, model_key: str
) -> PackedAnswer | None:
    """Return the answer of a model to one turn of a prompt, if the pack has it."""
    query = select(PackedAnswer).where(
        PackedAnswer.pack_id == pack_id,
        PackedAnswer.prompt_id == prompt_id,
        PackedAnswer.position == position,
        PackedAnswer.model_key == model_key,
    )
    return session.scalars(query).one_or_none()


def list_packs(session: Session) -> list[tuple[AnswerPack, int]]:
    """Return all packs with their numbers of answers, the newest first."""
    count = select(func.count()).where(PackedAnswer.pack_id == AnswerPack.id).scalar_subquery()
    query = select(AnswerPack, count).order_by(AnswerPack.created_at.desc(), AnswerPack.id)
    return [(pack, n_answers) for pack, n_answers in session.execute(query)]


def _add(session: Session, row: PromptSet | AnswerPack, *parts: PackedAnswer) -> None:
    """Add a row and its parts, unless another process has added the same just before."""
    try:
        with session.begin_nested():
            session.add(row)
            session.flush()  # the parts point to it
            session.add_all(parts)
    except IntegrityError:
        if session.get(type(row), row.id) is None:
            raise
