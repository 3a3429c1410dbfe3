"""Errors as a visitor sees them: a message in the page's language that says what to do.

The only place that makes a `gr.Error`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from backends.amounts import bytes_text
from backends.memory import DoesNotFit
from backends.specs import UnknownModel
from db import DatabaseError
from rating.errors import BadPromptSet, TrialError
from ui.language import Texts, language_of, texts_in
from ui.visitor import connection_of

logger = logging.getLogger(__name__)

_SHOWN_PROBLEMS = 10


class Refused(Exception):  # noqa: N818 -- it is what happened
    """A page won't do it; `code` names the text that says why, `details` fills it in."""

    def __init__(self, code: str, **details: object) -> None:
        super().__init__(code)
        self.code = code
        self.details = details


@contextmanager
def shown_errors(request: gr.Request) -> Iterator[None]:
    """Turn every error into a message on the page that says no more than a visitor may know."""
    try:
        yield
    except BadPromptSet as error:
        problems = problems_text(texts_in(language_of(connection_of(request))), error)
        raise _plain_error(request, error.code, name=error.name, problems=problems) from error
    except (TrialError, Refused) as error:
        raise _plain_error(request, error.code, **error.details) from error
    except UnknownModel as error:
        raise _plain_error(request, "unknown_model", reason=error) from error
    except DoesNotFit as error:
        needed, free = bytes_text(error.fit.needed_bytes), bytes_text(error.fit.free_bytes)
        raise _plain_error(request, "does_not_fit", needed=needed, free=free) from error
    except DatabaseError as error:
        logger.exception("the database failed")
        raise _plain_error(request, "database_trouble") from error
    except gr.Error:
        raise
    except Exception as error:
        # Whatever it says could name a model or quote a prompt: that is for the log alone.
        logger.exception("an event of a page failed")
        raise _plain_error(request, "unexpected") from error


def problems_text(t: Texts, error: BadPromptSet) -> str:
    """Return the first mistakes of a file in words, each with its line, and how many more."""
    words = []
    for problem in error.problems[:_SHOWN_PROBLEMS]:
        reason = t(problem.code, **problem.details)
        words.append(
            reason if problem.line is None else t("problem_at", line=problem.line, reason=reason)
        )
    if len(error.problems) > _SHOWN_PROBLEMS:
        words.append(t("problems_more", n=len(error.problems) - _SHOWN_PROBLEMS))
    return "\n".join(words)


def _plain_error(request: gr.Request, code: str, **details: object) -> gr.Error:
    t = texts_in(language_of(connection_of(request)))
    return gr.Error(t(code, **details), title="", print_exception=False)
