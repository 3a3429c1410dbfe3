"""Each format, opened by the library that reads it."""

import json
import subprocess
import sys
import typing
from io import BytesIO
from pathlib import Path

import llm_comparator.types
import pandas as pd

from db import Database, Dimension, Preference
from db.queries import Filters
from rating.exchange import Format, Selection, export_file
from tests.paths import ROOT, TINY
from tests.rating.exchange.samples import exported, rated, store, store_varied

BLIND = Filters(blind=True)
HEADER = (
    "trial,rater,prompt_id,prompt,turns,model,side,dimension,score,preference,comment,blind,"
    "rated_at,flags"
)


def test_pandas_reads_the_csv_as_it_was_entered(database: Database) -> None:
    store_varied(database)
    frame = pd.read_csv(BytesIO(exported(database)), parse_dates=["rated_at"])
    header = exported(database).split(b"\r\n")[0].decode()
    assert header == HEADER
    assert list(frame) == header.split(",")
    assert len(frame) == 7 * 2 * len(Dimension)
    assert str(frame["rated_at"].dt.tz) == "UTC"
    assert frame["blind"].dtype == bool
    assert frame["score"].isna().sum() == 5
    masked = frame[frame["trial"] == "masked"].iloc[0]
    assert masked["rater"] == "纸, 1"
    assert masked["comment"].startswith('他说："好的, 再见"\n第二行\r\n,"quoted", =1+1 🙂 e\u0301')
    assert set(frame.loc[frame["trial"] == "attention", "flags"]) == {"attention;better:right"}
    assert set(frame.loc[frame["trial"] == "repeat", "flags"]) == {f"repeat:{'c' * 32}"}
    assert set(frame.loc[frame["trial"] == "b" * 32, "turns"]) == {3}


def test_pandas_reads_the_parquet_with_its_types(database: Database) -> None:
    store_varied(database)
    frame = pd.read_parquet(BytesIO(exported(database, Format.PARQUET)), dtype_backend="pyarrow")
    assert dict(frame.dtypes.astype(str)) | {
        "turns": "int32[pyarrow]",
        "score": "int8[pyarrow]",
        "blind": "bool[pyarrow]",
        "rated_at": "timestamp[us, tz=UTC][pyarrow]",
    } == dict(frame.dtypes.astype(str))
    as_csv = pd.read_csv(BytesIO(exported(database)), keep_default_na=False)
    for column in ("trial", "rater", "prompt", "model", "side", "dimension", "comment", "flags"):
        assert frame[column].tolist() == as_csv[column].tolist()
    assert frame["score"].isna().sum() == 5
    assert str(frame["rated_at"].min()) == "2026-02-28 12:00:00.123456+00:00"


def test_trl_trains_on_the_preferences(database: Database, tmp_path: Path) -> None:
    # Here, since every worker of the tests would take seconds over them.
    import datasets  # noqa: PLC0415
    from transformers import AutoTokenizer  # noqa: PLC0415
    from trl.data_utils import (  # noqa: PLC0415
        is_conversational,
        maybe_apply_chat_template,
        maybe_extract_prompt,
    )

    left = rated("one", prompts=("你好",), answers=("好！", "Bad."))
    right = rated("two", minute=1, answers=("差", "很好"), preference=Preference.RIGHT)
    store(database, left, right)
    file = tmp_path / "preferences.jsonl"
    export_file(database, Format.TRL, Selection(), file)
    loaded = datasets.load_dataset(
        "json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.column_names == ["prompt", "chosen", "rejected"]
    tokenizer = AutoTokenizer.from_pretrained(TINY / "tiny-qwen")
    rows = [dict(row) for row in loaded]
    assert [is_conversational(row) for row in rows] == [True, True]
    assert [maybe_extract_prompt(row) for row in rows] == rows
    first, second = (maybe_apply_chat_template(row, tokenizer) for row in rows)
    assert first["prompt"].endswith("<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n")
    assert first["chosen"].strip() == "好！<|im_end|>"
    assert first["rejected"].strip() == "Bad.<|im_end|>"
    assert second["chosen"].strip() == "很好<|im_end|>"


ARENA = """
import json, sys
import pandas as pd
from arena_rank.models.bradley_terry import BradleyTerry
from arena_rank.utils.data_utils import PairDataset, default_outcome_map

frame = pd.read_json(sys.argv[1], lines=True)
data = PairDataset.from_pandas(frame)
model = BradleyTerry(n_competitors=len(data.competitors)).fit(data)
print(json.dumps({
    "competitors": data.competitors,
    "ratings": model.params["ratings"].tolist(),
    "outcomes": [default_outcome_map(word) for word in frame["winner"]],
    "columns": list(frame),
}))
"""


def test_arena_rank_ranks_the_models(database: Database, tmp_path: Path) -> None:
    """In a process of its own: JAX warns of every fork, which would be other tests' trouble."""
    preferences = ["left", "left", "left", "right", "tie", "both_bad"]
    trials = [
        rated(str(n), minute=n, preference=Preference(preference), models=("b/x", "a"))
        for n, preference in enumerate(preferences)
    ]
    third = rated("9", minute=9, preference=Preference.RIGHT, models=("c", "a"))
    store(database, *trials, third)
    file = tmp_path / "battles.jsonl"
    export_file(database, Format.ARENA, Selection(), file)
    done = subprocess.run(
        [sys.executable, "-c", ARENA, str(file)],
        cwd=ROOT,
        env={"JAX_PLATFORMS": "cpu", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert found["columns"] == [
        *("model_a", "model_b", "winner", "judge", "turn", "language", "tstamp"),
    ]
    assert found["outcomes"] == [1, 1, 1, 0, 0.5, 0.5, 0]
    assert found["competitors"] == ["a", "b/x", "c"]
    a, b, c = found["ratings"]
    assert b > a > c


def _check(value: object, kind: typing.Any) -> None:
    """Check that a dict has exactly the keys that the library declares."""
    assert isinstance(value, dict)
    assert set(value) == set(kind.__required_keys__)


def test_llm_comparator_s_own_types_are_met(database: Database) -> None:
    """Its Python package only writes such files; a page reads them (`tests/e2e`)."""
    store_varied(database)
    data = json.loads(exported(database, Format.LLM_COMPARATOR, filters=BLIND))
    assert data["examples"]
    for example in data["examples"]:
        _check(example, llm_comparator.types.Example)
        for rating in example["individual_rater_scores"]:
            _check(rating, llm_comparator.types.IndividualRating)
