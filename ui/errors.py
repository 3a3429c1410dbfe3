"""Errors as a visitor sees them: a message in the page's language that says what to do.

The only place that makes a `gr.Error`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from db import DatabaseError
from rating.errors import TrialError
from ui.language import language_of, texts_in
from ui.visitor import connection_of

logger = logging.getLogger(__name__)


@contextmanager
def shown_errors(request: gr.Request) -> Iterator[None]:
    """Turn what a visitor can put right, and a failing database, into a message on the page."""
    try:
        yield
    except TrialError as error:
        t = texts_in(language_of(connection_of(request)))
        raise gr.Error(t(error.code, **error.details), title="", print_exception=False) from error
    except DatabaseError as error:
        logger.exception("the database failed")
        t = texts_in(language_of(connection_of(request)))
        raise gr.Error(t("database_trouble"), title="", print_exception=False) from error
