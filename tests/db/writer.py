"""A process that stores ratings one after the other and reports each on stdout once it is stored.

`python -m tests.db.writer DATABASE_URL COUNT`; a negative COUNT never ends.
"""

import itertools
import subprocess
import sys

from db import Database
from tests.db import rows
from tests.paths import ROOT


def store_rating(database: Database) -> str:
    """Store one rating with all that belongs to it in one transaction; return its trial's id.

    The id is only returned once the block is left, which is when the transaction is committed.
    """
    turn = rows.turn()
    with database.write() as session:
        session.add_all([turn, rows.answer(turn=turn), rows.rating(trial=turn.trial)])
    return turn.trial_id


def start(url: str, count: int) -> subprocess.Popen[str]:
    """Start such a process; as a context manager it is waited for, so that none stays behind."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.db.writer", url, str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def main(url: str, count: int) -> None:
    """Store `count` ratings."""
    database = Database.open(url)
    for done in itertools.count():
        if done == count:
            break
        sys.stdout.write(store_rating(database) + "\n")
        sys.stdout.flush()
    database.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
