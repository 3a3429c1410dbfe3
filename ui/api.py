"""The programming interface: named endpoints for `gradio_client`, with the same rights as the page.

A client is a rater like any other: blind until its rating is saved. Texts of errors are in the
language that the client accepts.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import gradio as gr
from gradio.events import api

from db import Side
from rating.results_rule import visible_to
from rating.session import Panel
from rating.summary import as_json, filters_from
from rating.trial import TrialView
from ui.errors import shown_errors
from ui.operator import Operator
from ui.results.finder import Finder
from ui.visitor import connection_of, visitor_of


def build(panel: Panel, finder: Finder, operator: Operator) -> None:
    """Add the endpoints to the Blocks that is open."""

    async def new_trial(request: gr.Request) -> dict[str, Any]:
        """Begin a trial; the one before it is abandoned unless it was rated.

        In a rating session it is the one that the session gives, or the unrated one before.
        """
        with shown_errors(request):
            return as_plain(await panel.new_trial(visitor_of(request)))

    async def ask(
        trial: str, prompt: str, request: gr.Request
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Ask both models; gives the trial again and again until both answers are complete.

        In a rating session the prompts are the session's: leave `prompt` empty.
        """
        with shown_errors(request):
            visitor = visitor_of(request)
            asked = await panel.ask(visitor, trial, prompt)
            async for view in panel.watch(visitor, asked.id):
                yield as_plain(view)

    async def retry(
        trial: str, side: str, request: gr.Request
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Ask the "left" or "right" side again after it failed or was stopped."""
        with shown_errors(request):
            visitor = visitor_of(request)
            await panel.retry(visitor, trial, [each for each in Side if each == side])
            async for view in panel.watch(visitor, trial):
                yield as_plain(view)

    async def stop(trial: str, request: gr.Request) -> dict[str, Any]:
        """Stop the answers that are being written."""
        with shown_errors(request):
            await panel.stop(visitor_of(request), trial)
        return {"trial": trial}

    async def rate(
        trial: str,
        scores: dict[str, dict[str, int | str]],
        preference: str,
        comment: str,
        request: gr.Request,
        guess: str | None = None,
    ) -> dict[str, Any]:
        """Save a rating and learn who was who; in a rating session only at its end.

        `scores` is `{side: {dimension: 1 to 5, or "na"}}` with every side and dimension;
        `preference` is left, right, tie or both_bad. Where a trial has `to_guess`, `guess` is the
        side on which the first of these two is, or "none".
        """
        entries = {"scores": scores, "preference": preference, "comment": comment, "guess": guess}
        with shown_errors(request):
            return as_plain(await panel.rate(visitor_of(request), trial, entries))

    async def summary(
        request: gr.Request,
        blind: bool | None = None,
        language: str | None = None,
        pair: str | None = None,
        since: str | None = None,
        until: str | None = None,
        session: str | None = None,
        include_flagged: bool = False,
    ) -> dict[str, Any]:
        """Return what the ratings prove, by pair, blind and open apart.

        Limits, all optional: `blind`, `language` (zh, en), `pair` ("first|second"), `since` and
        `until` (days as 2026-02-28), `session` (the id of a rating session). Trials of a session
        whose results you may not see yet are left out. `include_flagged` counts ratings with signs
        of carelessness as well.
        """
        mode = {True: "blind", False: "open"}.get(blind) if isinstance(blind, bool) else None
        with shown_errors(request):
            wanted = filters_from(
                pair=pair,
                mode=mode,
                language=language,
                since=since,
                until=until,
                session=session,
            )
            rater, is_operator = visitor_of(request).id, operator.admits(connection_of(request))
            visible = await asyncio.to_thread(
                visible_to, finder.database, wanted, rater, operator=is_operator
            )
            found = await finder.find(visible, include_flagged=include_flagged is True)
            return as_json(found.results)

    for function in (new_trial, ask, stop, retry, rate, summary):
        api(function, api_name=function.__name__, concurrency_limit=None)


def as_plain(view: TrialView) -> dict[str, Any]:
    """Return a trial as plain data, without what its rater may not know yet."""
    return {
        "trial": view.id,
        "state": view.state.value,
        "blind": view.blind,
        "session": view.session,
        "to_guess": view.to_guess,
        "retry": [side.value for side in view.to_retry],
        "turns": [
            {
                "prompt": turn.prompt,
                **{
                    side.value: {
                        "text": answer.text,
                        "status": answer.status.value,
                        "error": answer.error,
                        **(
                            {"timing": vars(answer.timing), "cached": answer.cached}
                            if answer.timing
                            else {}
                        ),
                    }
                    for side, answer in turn.answers.items()
                },
            }
            for turn in view.turns
        ],
        "models": {side.value: vars(identity) for side, identity in view.reveal.items()}
        if view.reveal
        else None,
    }
