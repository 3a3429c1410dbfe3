"""`python app.py generate`: a whole prompt set answered ahead, as one file."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from backends.specs import UnknownModel
from rating.errors import BadPack, BadPromptSet
from rating.packs.generating import Missing, finish
from rating.packs.generating import generate as have_answered
from rating.packs.pack_file import SUFFIX, read_pack
from rating.packs.unfinished import CannotGenerate, Order, opened
from rating.prompt_files import read_prompt_set
from rating.prompt_sets import PromptSet, built_in
from ui.command_line.options import give_up, load_settings, option
from ui.command_line.settings import MODEL_WORDS, Settings

_SHOWN = 20


def generate(
    out: Annotated[Path, typer.Option(help=f"the pack's file, such as NAME{SUFFIX}")],
    prompts: Annotated[
        Path | None,
        typer.Option(help="a prompt set, YAML or CSV; otherwise the one that comes with Twopane"),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help=f"instead of the pair; may be repeated: {MODEL_WORDS}")
    ] = None,
    pair: Annotated[str | None, option("pair", "--pair")] = None,
    left: Annotated[str | None, option("left", "--left")] = None,
    right: Annotated[str | None, option("right", "--right")] = None,
    threads: Annotated[int | None, option("threads", "--threads")] = None,
    precision: Annotated[str | None, option("precision", "--precision")] = None,
    hubs: Annotated[str | None, option("hubs", "--hubs")] = None,
    force: Annotated[bool | None, option("force", "--force")] = None,
) -> None:
    """Answer a whole prompt set ahead; Ctrl+C keeps what there is, the same command goes on."""
    settings = load_settings(
        pair=pair,
        left=left,
        right=right,
        threads=threads,
        precision=precision,
        hubs=hubs,
        force=force,
    )
    try:
        prompt_set = _prompt_set(prompts)
        order = Order(prompt_set, settings.models_named(model or ()), settings.precision)
        missing = [] if _is_there(out, order) else _generate(settings, order, out)
    except (UnknownModel, BadPromptSet, BadPack, CannotGenerate, OSError) as error:
        raise give_up(error) from error
    if missing:
        _tell_missing(missing, out)
        raise typer.Exit(1)


def _prompt_set(file: Path | None) -> PromptSet:
    if file is None:
        return built_in()
    prompt_set = read_prompt_set(file.read_bytes(), file.name)
    if not prompt_set.regular:
        raise CannotGenerate(f"{file} has only attention items, which need no answers.")
    return prompt_set


def _is_there(out: Path, order: Order) -> bool:
    """Whether the pack is finished already.

    Raises:
        CannotGenerate: Another one is, or something else.
    """
    if not out.exists():
        return False
    pack = read_pack(out)
    keys = [entry.key for entry in pack.models]
    if (pack.prompt_set.id, keys) != (order.prompt_set.id, order.keys):
        raise CannotGenerate(
            f"{out} is another pack: {', '.join(keys)} answering {pack.prompt_set.name}. Move it "
            "away, or give another --out."
        )
    typer.echo(f"{out} is finished already.", err=True)
    return True


def _generate(settings: Settings, order: Order, out: Path) -> list[Missing]:
    tell = partial(typer.echo, err=True)
    unfinished_file = out.with_name(f"{out.name}.part")
    with opened(unfinished_file, order) as unfinished:
        try:
            answered = have_answered(order, settings.for_servers(), unfinished, tell)
            missing = asyncio.run(answered)
        except KeyboardInterrupt:
            count = len(unfinished.answers)
            tell(f"Stopped. {unfinished_file} keeps {count} answers; the same command goes on.")
            raise typer.Exit(130) from None
        if not missing:
            pack = finish(order, unfinished, out)
            typer.echo(f"{out}: {len(pack.answers)} answers to {pack.prompt_set.name}, {pack.id}")
    return missing


def _tell_missing(missing: list[Missing], out: Path) -> None:
    for one in missing[:_SHOWN]:
        typer.secho(str(one), fg=typer.colors.RED, err=True)
    if len(missing) > _SHOWN:
        typer.secho("...", fg=typer.colors.RED, err=True)
    typer.secho(
        f"Answers that are missing: {len(missing)}. {out}.part keeps the others; the same command "
        "asks for these again. A prompt that can't be answered must be left out of the set.",
        fg=typer.colors.RED,
        err=True,
    )
