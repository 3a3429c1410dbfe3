"""Everything that can be set, in one object: options, else `TWOPANE_*` variables, else defaults.

Says what settings mean for other parts; starts and opens nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from backends.catalog import HUBS, PAIRS, Model, hub_order
from backends.hub import with_files
from backends.lineup import Models
from backends.measure import ServerSettings
from backends.precisions import PRECISIONS, precision_order
from backends.resources import Limits
from backends.specs import UnknownModel, resolve
from db import Database
from rating.answer_cache import AnswerCache, CacheLimits

MODEL_WORDS = "catalog key, folder, hub id, base+adapter folder, or URL#model"


class Settings(BaseSettings):
    """Everything that can be set: by an option, else by a `TWOPANE_*` variable, else as here."""

    model_config = SettingsConfigDict(env_prefix="TWOPANE_", env_file=".env", extra="ignore")

    pair: str = Field("tiny", description=f"which pair to compare: {', '.join(PAIRS)}")
    left: str | None = Field(
        None, description=f"a model instead of the pair's first: {MODEL_WORDS}"
    )
    right: str | None = Field(
        None, description=f"a model instead of the pair's second: {MODEL_WORDS}"
    )
    pack: Path | None = Field(
        None,
        description="an answer pack: its prompts are rated with its answers, and no model is "
        "loaded; --left and --right choose among its models",
    )
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 is every one")
    port: int = Field(7860, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    database_url: str = Field(
        "sqlite:///data/twopane.db", description="where ratings are kept: SQLite or PostgreSQL"
    )
    open: bool = Field(False, description="show from the start which model is which")
    threads: int | None = Field(
        None, ge=1, description="threads of each local model server; otherwise the cores shared out"
    )
    precision: str | None = Field(
        None,
        description=f"what local models compute in: {', '.join(PRECISIONS)}, or several, as "
        "int8,int4: the first that the weights allow; otherwise their own choice",
    )
    cache_memory: int | None = Field(
        None,
        ge=0,
        description="MB that each local model server may use to keep what it has computed of "
        "conversations; otherwise an eighth of what is free, 256 to 2000",
    )
    hubs: str = Field(
        ",".join(HUBS),
        description="where weights are fetched from that are not here, in this order",
    )
    cache: Path | None = Field(
        None,
        description="where fetched weights are kept; otherwise in the user's cache folder "
        "(only as a variable)",
    )
    force: bool = Field(False, description="load models that need more memory than is free")
    answer_cache: Literal["off", "open", "all"] = Field(
        "off",
        description="in which trials a question that was asked before gets its answer again, from "
        "the database: off, open (open ones), all (blind ones too: a rater may know the words "
        "again)",
    )
    answer_cache_pace: Literal["recorded", "at-once"] = Field(
        "recorded",
        description="how fast such an answer comes in an open trial: recorded (as it once came) or "
        "at-once; in a blind one always as recorded",
    )
    answer_cache_entries: int = Field(
        1_000,
        ge=1,
        description="how many answers are kept to be given again; the longest unused one goes "
        "first (only as a variable)",
    )
    answer_cache_size: int = Field(
        50, ge=1, description="MB that these answers may take (only as a variable)"
    )
    api_key: SecretStr = Field(
        SecretStr("none"), description="key for models at a URL (only as a variable)"
    )
    alarm_memory: int = Field(
        80,
        ge=1,
        le=100,
        description="percent of this machine's memory: an alarm begins when the app and its model "
        "servers hold more together; a share of the machine, since that is what runs out",
    )
    alarm_cpu: int | None = Field(
        None,
        ge=1,
        le=100,
        description="percent of all usable cores: an alarm begins when the app and its model "
        "servers take more together over a minute; otherwise none, since answering takes what it "
        "can get",
    )
    operator_key: SecretStr | None = Field(
        None,
        description="who enters it on the Models page may change the pair; without it, only who "
        "visits from this machine (only as a variable)",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="how much is logged"
    )

    @field_validator("hubs")
    @classmethod
    def _check_hubs(cls, hubs: str) -> str:
        hub_order(hubs)
        return hubs

    @field_validator("precision")
    @classmethod
    def _check_precision(cls, precision: str | None) -> str | None:
        return None if precision is None else ",".join(precision_order(precision))

    @property
    def cache_bytes(self) -> int | None:
        """What each server may keep of conversations; None: it depends on what is free."""
        return None if self.cache_memory is None else self.cache_memory * 1_000_000

    @property
    def alarm_limits(self) -> Limits:
        """Above which shares of the machine an alarm begins."""
        cpu = None if self.alarm_cpu is None else self.alarm_cpu / 100
        return Limits(self.alarm_memory / 100, cpu)

    def answers_from(self, database: Database) -> AnswerCache | None:
        """Return the answers that may be given again; None where none may."""
        if self.answer_cache == "off":
            return None
        return AnswerCache(
            database,
            CacheLimits(self.answer_cache_entries, self.answer_cache_size * 1_000_000),
            blind=self.answer_cache == "all",
            at_once=self.answer_cache_pace == "at-once",
        )

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that are wanted, the first choice first; empty: the models' own."""
        return precision_order(self.precision) if self.precision else ()

    def for_servers(self) -> ServerSettings:
        """Return what a measured or generating model's server is started with."""
        return ServerSettings(
            threads=self.threads,
            precision=self.precision,
            hubs=self.hubs,
            force=self.force,
            api_key=self.api_key.get_secret_value(),
        )

    def models(self) -> Models:
        """Return the two models to compare.

        Raises:
            UnknownModel: No such pair or model, or twice the same; says what to do.
        """
        if self.pair not in PAIRS:
            raise UnknownModel(f"There is no pair {self.pair!r}. Give one of: {', '.join(PAIRS)}.")
        first, second = PAIRS[self.pair].models
        left, right = resolve(self.left or first), resolve(self.right or second)
        if left.key == right.key:
            raise UnknownModel(f"Both sides would be {left.key}. Give two different models.")
        return with_files(left), with_files(right)

    def models_named(self, names: Sequence[str]) -> tuple[Model, ...]:
        """Return the models of these names; without any, the two to compare.

        Raises:
            UnknownModel: No such model, or one of them twice; says what to do.
        """
        if not names:
            return self.models()
        models = {model.key: model for model in map(resolve, names)}
        if len(models) < len(names):
            raise UnknownModel(f"Of {', '.join(names)} some are the same. Give each model once.")
        return tuple(map(with_files, models.values()))
