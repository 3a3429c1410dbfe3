"""Keeps answer packs in the database. Each is stored once, under the hash that it is known by.

What is a pack, and that a file holds a whole one, has been checked before: by `pack_file`.
"""

from dataclasses import dataclass
from datetime import datetime

from db import AnswerPack, Database, PackedAnswer, pack_queries
from db import PromptSet as PromptSetRow
from rating.packs.pack import AnswerEntry, ModelEntry, Pack
from rating.recordings import Recording, recording_of

_ANSWER_FIELDS = (
    *("prompt_id", "position", "text", "finish_reason", "seed"),
    *("prompt_tokens", "completion_tokens", "first_token_s", "total_s"),
)


@dataclass(frozen=True)
class StoredPack:
    """A pack in the database, without its answers.

    Attributes:
        answers: How many there are.
    """

    id: str
    name: str
    prompt_set_id: str
    models: tuple[ModelEntry, ...]
    answers: int
    made_at: datetime
    created_at: datetime


def take(database: Database, pack: Pack, name: str) -> str:
    """Keep the pack and its prompt set, unless they are there already; return its id."""
    prompt_set = PromptSetRow(
        id=pack.prompt_set.id, name=pack.prompt_set.name, prompts=pack.prompt_set.as_json()
    )
    row = AnswerPack(
        id=pack.id,
        name=name[:200],
        prompt_set_id=pack.prompt_set.id,
        models=[model.as_json() for model in pack.models],
        made_at=pack.made_at,
    )
    answers = [_row_of(pack.id, answer) for answer in pack.answers]
    with database.write() as session:
        pack_queries.store_prompt_set(session, prompt_set)
        pack_queries.store_pack(session, row, answers)
    return pack.id


def load(database: Database, pack_id: str) -> StoredPack:
    """Return what is known of the pack of that id.

    Raises:
        LookupError: There is none.
    """
    found = next((pack for pack in list_packs(database) if pack.id == pack_id), None)
    if found is None:
        raise LookupError(f"there is no answer pack {pack_id}")
    return found


def list_packs(database: Database) -> list[StoredPack]:
    """Return what is kept, the newest first."""
    with database.read() as session:
        rows = pack_queries.list_packs(session)
    return [_stored(pack, answers) for pack, answers in rows]


def recording(
    database: Database, pack_id: str, prompt_id: str, position: int, model_key: str
) -> Recording:
    """Return a model's answer to one turn of a prompt, to be given again.

    Raises:
        LookupError: The pack has none.
    """
    with database.read() as session:
        row = pack_queries.load_answer(session, pack_id, prompt_id, position, model_key)
    if row is None:
        raise LookupError(f"pack {pack_id} has no answer of {model_key} to {prompt_id}, {position}")
    return recording_of(row)


def _stored(row: AnswerPack, answers: int) -> StoredPack:
    return StoredPack(
        id=row.id,
        name=row.name,
        prompt_set_id=row.prompt_set_id,
        models=tuple(map(ModelEntry.model_validate, row.models)),
        answers=answers,
        made_at=row.made_at,
        created_at=row.created_at,
    )


def _row_of(pack_id: str, answer: AnswerEntry) -> PackedAnswer:
    return PackedAnswer(
        pack_id=pack_id,
        model_key=answer.model,
        pieces=[list(piece) for piece in answer.pieces],
        **{name: getattr(answer, name) for name in _ANSWER_FIELDS},
    )
