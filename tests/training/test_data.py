"""Training data: layouts, formats, malformed rows, duplicates, conflicts, evaluation prompts."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from fastroute.data import (
    DataReport,
    EvaluationPrompts,
    GradedResult,
    HarderPrompt,
    JudgedBattle,
    RatedPrompt,
    read_records,
    read_training_data,
)
from fastroute.data.cleaning import clean
from fastroute.errors import InvalidInputError
from fastroute.training.exclusion import read_evaluation_prompts

BATTLES = [
    {"prompt": "write a poem", "model_a": "x", "model_b": "y", "winner": "model_b"},
    {"prompt": "write a song", "model_a": "y", "model_b": "x", "winner": "tie (bothbad)"},
]
GRADED = [
    {"prompt": "2 + 2?", "dataset": "sums", "scores": {"x": 1, "y": 0.5}, "costs": {"x": 0.01}},
    {"prompt": "3 + 3?", "dataset": "sums", "scores": {"x": 0, "y": 1}, "costs": {"x": 0.02}},
]
FORMATS = ["jsonl", "csv", "parquet"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """``rows`` as JSONL, CSV (objects as JSON) or Parquet, gzipped if the name says so."""
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    if kind == "parquet":
        sink = io.BytesIO()
        parquet.write_table(pa.Table.from_pylist(rows), sink)
        content = sink.getvalue()
    elif kind == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(
            {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
            for row in rows
        )
        content = text.getvalue().encode()
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("ending", [*FORMATS, *(f"{kind}.gz" for kind in FORMATS)])
def test_every_format_gives_the_same_records(tmp_path: Path, ending: str) -> None:
    name = f"b.{ending}"
    battles, graded, report = read_records(write(tmp_path / name, BATTLES))
    assert battles == [
        JudgedBattle(name, "", "write a poem", "x", "y", 1.0),
        JudgedBattle(name, "", "write a song", "y", "x", 0.5, both_bad=True),
    ]
    assert [b.winner for b in battles] == ["model_b", "tie (bothbad)"]
    assert (graded, report.rows, report.battles) == ([], 2, 2)
    battles, graded, report = read_records(write(tmp_path / f"g.{ending}", GRADED))
    assert graded[0] == GradedResult(
        f"g.{ending}", "sums", "2 + 2?", {"x": 1.0, "y": 0.5}, {"x": 0.01}
    )
    assert graded[0].group == "g/sums"
    assert (battles, report.graded) == ([], 2)


def test_a_column_a_model(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "prompt": "p", "weak": "0.5", "strong": "true", "cost_weak": "2", "other": ""}
    ]
    _, (row,), _ = read_records(write(tmp_path / "t.csv", rows))
    assert row.scores == {"weak": 0.5, "strong": 1.0}
    assert row.costs == {"weak": 2.0}


def test_a_list_of_verdicts_and_a_conversation(tmp_path: Path) -> None:
    row = {
        "prompt": "### Human: first ### Assistant: yes ### Human: second ### Assistant:",
        "battles": [["x", "y", 1.0], ["y", "x", 0.5]],
    }
    battles, _, _ = read_records(write(tmp_path / "t.jsonl", [row]))
    assert [(b.prompt, b.model_a, b.preference) for b in battles] == [
        ("second", "x", 1.0),
        ("second", "y", 0.5),
    ]
    # Both orders of one judge are one verdict, its mean: y preferred by 1 and by 1/2.
    data = read_training_data([tmp_path / "t.jsonl"])
    assert [b.preference for b in data.battles] == [0.75]
    assert data.report.both_orders == 1
    assert data.report.conflicts == 0


ARENA = ("id", "model_a", "model_b", "prompt", "response_a", "response_b")
VOTES = ("winner_model_a", "winner_model_b", "winner_tie")


def arena(path: Path, rows: list[tuple[str, tuple[int, int, int]]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*ARENA, *VOTES])
        for i, (prompt, votes) in enumerate(rows):
            writer.writerow([i, "x", "y", prompt, '["a"]', '["b, null"]', *votes])
    return path


def test_the_layout_of_chatbot_arena(tmp_path: Path) -> None:
    path = arena(
        tmp_path / "train.csv",
        [
            ('["one, \\"quoted\\"\\nline", "two"]', (1, 0, 0)),
            ('[null, "late"]', (0, 1, 0)),
            ('["half \\ud83d of a pair"]', (0, 0, 1)),
            ('["whole \\ud83d\\ude00 pair"]', (0, 0, 1)),
            ('[null, " "]', (0, 0, 1)),
        ],
    )
    battles, _, report = read_records(path)
    assert [(b.prompt, b.preference) for b in battles] == [
        ('one, "quoted"\nline', 0.0),
        ("late", 1.0),
        ("half \ufffd of a pair", 0.5),
        ("whole \U0001f600 pair", 0.5),
    ]
    assert (report.rows, report.without_prompt, report.repaired) == (5, 1, 1)
    assert read_records(path, turns="last")[0][0].prompt == "two"
    assert read_records(path, turns="all")[0][0].prompt == 'one, "quoted"\nline\n\ntwo'


def test_arena_rows_that_are_wrong_are_named_by_line(tmp_path: Path) -> None:
    path = arena(
        tmp_path / "train.csv",
        [('["two\\nlines"]', (1, 0, 0)), ('["x"]', (1, 1, 0)), ("plain", (1, 0, 0))],
    )
    with pytest.raises(InvalidInputError, match="2 malformed rows") as caught:
        read_records(path)
    assert "line 3: winner_model_a" in str(caught.value)
    assert "line 4: 'prompt' is not JSON" in str(caught.value)
    _, _, report = read_records(path, skip_bad=True)
    assert (report.malformed, len(report.examples), report.battles) == (2, 2, 1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**BATTLES[0], "winner": "x"}, "'winner' is 'x'; it must be one of 'model_a'"),
        ({**BATTLES[0], "winner": None}, "has no verdict"),
        ({**BATTLES[0], "model_a": "x\ud800"}, "'model_a' is 'x\\ud800', not Unicode text"),
        ({**BATTLES[0], "dataset": "\udfff"}, "'dataset' is '\\udfff', not Unicode text"),
        ({**GRADED[0], "scores": {"\ud800": 1}}, "a model's name is '\\ud800', not Unicode text"),
        ({**BATTLES[0], "preference": 1}, "has winner and preference"),
        ({**BATTLES[0], "model_b": "x"}, "a battle needs two models"),
        ({**BATTLES[0], "model_b": 3}, "'model_b' is 3, not a model's name"),
        ({"prompt": "p", "model_a": "x", "model_b": "y", "preference": 2}, "outside 0..1"),
        ({"prompt": "p", "model_a": "x", "model_b": "y", "pref_b": "nan"}, "not a finite number"),
        ({"prompt": "p", "battles": [["x", "y"]]}, "not [model_a, model_b, preference]"),
        ({"prompt": "p", "battles": []}, "not a list"),
        ({**GRADED[0], "scores": {"x": 7}}, "score of 'x' is 7.0, outside 0..1"),
        ({**GRADED[0], "scores": {"x": "good"}}, "'x' is 'good', not a number"),
        ({**GRADED[0], "scores": [1]}, "'scores' is not an object"),
        ({**GRADED[0], "costs": {"x": -1}}, "cost of 'x' is -1.0, below 0"),
        ({**GRADED[0], "dataset": 3}, "'dataset' is 3, not a string"),
        ({"prompt": "p"}, "has neither a battle nor any score"),
        ({"prompt": "p", "label": 6}, "'label' is 6; it must be a whole number from 1 to 5"),
        ({"prompt": "p", "label": 2.5}, "'label' is 2.5; it must be a whole number"),
        ({"prompt": "p", "label": True}, "'label' is True; it must be a whole number"),
        ({"prompt": "p", "label": 1, "weak": 1, "strong": 1}, "has a 'label' and weak, strong"),
        ({"scores": {"x": 1}}, "no 'prompt'"),
        ({**GRADED[0], "prompt": "\ud800"}, "lone surrogate"),
        ({**GRADED[0], "prompt": [1]}, "items that are not strings"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "t.jsonl", [GRADED[0], GRADED[1], row])
    with pytest.raises(InvalidInputError, match="line 3: ") as caught:
        read_training_data([path])
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert read_training_data([path], skip_bad=True).report.files[0].malformed == 1


@pytest.mark.parametrize("ending", FORMATS)
def test_labels_are_battles_of_strong_and_weak(tmp_path: Path, ending: str) -> None:
    rows = [{"prompt": f"p {label}", "dataset": "d", "label": label} for label in (1, 4)]
    found, graded, _ = read_records(write(tmp_path / f"t.{ending}", rows))
    assert graded == []
    assert [(b.prompt, b.dataset, b.model_a, b.model_b) for b in found] == [
        ("p 1", "d", "strong", "weak"),
        ("p 4", "d", "strong", "weak"),
    ]
    assert [b.preference for b in found] == pytest.approx([1 / 12, 5 / 8])


def test_labels_that_disagree_are_a_conflict(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "label": 1}, {"prompt": "p", "label": 2}, {"prompt": "q", "label": 2}]
    path = write(tmp_path / "t.jsonl", rows)
    data = read_training_data([path])
    assert (data.report.conflicts, [b.prompt for b in data.battles]) == (2, ["q"])
    averaged = read_training_data([path], conflicts="average").battles
    assert [b.preference for b in averaged] == pytest.approx([1 / 6, 1 / 4])


# Difficulty

RATED = [
    {
        "prompt": "2 + 2?",
        "dataset": "d",
        "difficulty": 850.5,
        "standard_error": 90,
        "judgements": 6,
    },
    {"prompt": "Prove it.", "dataset": "d", "difficulty": 1180, "standard_error": 80.5},
]
HARDER = [
    {"prompt": "2 + 2?", "prompt_b": "Prove it.", "harder": "B"},
    {"prompt": "Prove it.", "prompt_b": "3 + 3?", "harder": "A"},
    {"prompt": "2 + 2?", "prompt_b": "3 + 3?", "harder": "tie"},
    {"prompt": "Why?", "prompt_b": "3 + 3?", "harder": "0.25"},
]


@pytest.mark.parametrize("ending", [*FORMATS, "jsonl.gz", "csv.gz"])
def test_labels_of_difficulty(tmp_path: Path, ending: str) -> None:
    rated, harder = f"rated.{ending}", f"harder.{ending}"
    paths = [write(tmp_path / rated, RATED), write(tmp_path / harder, HARDER)]
    data = read_training_data(paths, difficulty=True)
    assert data.rated == (
        RatedPrompt(rated, "d", "2 + 2?", 850.5, 90.0),
        RatedPrompt(rated, "d", "Prove it.", 1180.0, 80.5),
    )
    assert data.harder == (
        HarderPrompt(harder, "", "2 + 2?", "Prove it.", 1.0),
        HarderPrompt(harder, "", "Prove it.", "3 + 3?", 0.0),
        HarderPrompt(harder, "", "2 + 2?", "3 + 3?", 0.5),
        HarderPrompt(harder, "", "Why?", "3 + 3?", 0.25),
    )
    assert data.battles == data.graded == data.models == ()
    assert data.prompts == ("2 + 2?", "Prove it.", "3 + 3?", "Why?")
    assert data.report.difficulty == 6
    assert data.report.lines()[-1] == "left: 6 labels of difficulty on 4 prompts"
    assert not any("columns" in line for line in data.report.lines())


@pytest.mark.parametrize("row", [RATED[0], HARDER[0]])
def test_difficulty_is_no_models_score(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write(tmp_path / "t.jsonl", [row])
    for read in (read_records, lambda p: read_training_data([p])):
        with pytest.raises(InvalidInputError, match="has a label of difficulty and no score"):
            read(path)
    # Beside scores of models it is a column that is not read, and that is said.
    path = write(tmp_path / "t.jsonl", [{**row, "x": 1, "y": 0}])
    data = read_training_data([path])
    assert data.models == ("x", "y")
    assert set(data.report.files[0].left_out) == set(row) - {"prompt", "dataset"}


def test_of_a_file_with_difficulty_nothing_else_is_learnt(tmp_path: Path) -> None:
    others = {
        "cost": 3, "usd": 2, "row_id": 7, "created_at": 5, "objective_score": 4, "my-model": 1,
    }  # fmt: skip
    path = write(tmp_path / "t.jsonl", [{**row, **others} for row in RATED])
    data = read_training_data([path], difficulty=True)
    assert [row.difficulty for row in data.rated] == [850.5, 1180.0]
    assert data.models == ()
    said = " ".join(data.report.lines())
    assert all(f"{name} (its row is labelled by difficulty)" in said for name in others)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"difficulty": "hard"}, "'difficulty' is 'hard', not a number"),
        ({"difficulty": float("nan")}, "'difficulty' is nan, not a finite number"),
        ({"difficulty": None}, "'difficulty' is None, not a number"),
        ({"difficulty": 1, "standard_error": -1}, "'standard_error' is -1.0, below 0"),
        ({"difficulty": 1, "standard_error": "x"}, "'standard_error' is 'x', not a number"),
        ({"harder": "B"}, "'prompt_b' is None, not a string"),
        ({"prompt_b": "q", "harder": "C"}, "'harder' must be 'A' (prompt), 'B' (prompt_b), 'tie'"),
        ({"prompt_b": "q", "harder": 2}, "'harder' is 2.0, outside 0..1"),
        ({"prompt_b": "q"}, "no 'harder'"),
        ({"prompt_b": " ", "harder": "A"}, "'prompt_b' is ' ', not a string"),
        ({"prompt_b": " p ", "harder": "A"}, "are the same text"),
        ({"prompt_b": "\ud800", "harder": "A"}, "lone surrogate"),
    ],
)
def test_a_malformed_label_of_difficulty(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"prompt": "p", **row}) + "\n")
    with pytest.raises(InvalidInputError, match=f"line 1: .*{re.escape(message)}"):
        read_training_data([path], difficulty=True)
    path.write_text(path.read_text() + json.dumps(RATED[0]) + "\n")
    data = read_training_data([path], difficulty=True, skip_bad=True)
    assert (len(data.rated), data.report.files[0].malformed) == (1, 1)


def test_duplicates_and_conflicts_of_difficulty(tmp_path: Path) -> None:
    rows = [
        *RATED,
        {**RATED[0], "prompt": " 2  + 2?"},  # a duplicate
        {**RATED[1], "difficulty": 900},  # a conflict
        {**RATED[1], "dataset": "other", "difficulty": 3},  # on another scale
        HARDER[0],
        {"prompt": "Prove it.", "prompt_b": "2 + 2?", "harder": "A"},  # the same, turned
        HARDER[1],
        {"prompt": "3 + 3?", "prompt_b": "Prove it.", "harder": "A"},  # the other
    ]
    path = write(tmp_path / "t.jsonl", rows)
    data = read_training_data([path], difficulty=True)
    assert [(row.dataset, row.difficulty) for row in data.rated] == [("d", 850.5), ("other", 3.0)]
    assert [(row.prompt, row.prompt_b) for row in data.harder] == [("2 + 2?", "Prove it.")]
    assert (data.report.duplicates, data.report.conflicts) == (2, 4)
    averaged = read_training_data([path], difficulty=True, conflicts="average")
    assert [row.difficulty for row in averaged.rated] == [850.5, 1040.0, 3.0]
    assert [row.harder for row in averaged.harder] == [1.0, 0.5]


def test_excluded_and_foreign_prompts_take_their_pairs_along(tmp_path: Path) -> None:
    rows = [*RATED, *HARDER, {"prompt": "Why?", "prompt_b": "一" * 9, "harder": "A"}]
    path = write(tmp_path / "t.jsonl", rows)
    data = read_training_data(
        [path], difficulty=True, english=True, exclude=EvaluationPrompts(["PROVE it"])
    )
    assert data.prompts == ("2 + 2?", "3 + 3?", "Why?")
    assert (len(data.rated), len(data.harder)) == (1, 2)
    assert (data.report.excluded_exact, data.report.not_english) == (1, 1)


def test_a_folder_is_its_files_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "deeper.jsonl").mkdir(parents=True)
    with pytest.raises(InvalidInputError, match=r"data has no file that ends in \.jsonl"):
        read_training_data([folder])
    write(folder / "b.csv", BATTLES)
    write(folder / "a.jsonl.gz", GRADED)
    for name in ("README.md", ".hidden.jsonl"):
        (folder / name).write_text("no data")
    (folder / "deeper.jsonl" / "c.jsonl").write_text("no data")
    data = read_training_data([folder])
    assert [Path(f.file).name for f in data.report.files] == ["a.jsonl.gz", "b.csv"]
    assert (len(data.battles), len(data.graded)) == (2, 2)


def test_what_is_not_english_goes_on_request_and_is_counted(tmp_path: Path) -> None:
    rows = [
        *GRADED,
        {"prompt": "一" * 9 + "?", "scores": {"x": 1}},
        {"prompt": "In Latin", "dataset": "agieval_jec_qa_ca", "scores": {"x": 1}},
        {**BATTLES[0], "prompt": "一" * 9 + "!"},
    ]
    path = write(tmp_path / "t.jsonl", rows)
    data = read_training_data([path], english=True)
    assert [row.prompt for row in data.graded] == ["2 + 2?", "3 + 3?"]
    assert data.battles == ()
    assert data.report.not_english == 3
    assert any(
        line.startswith("3 labels of prompts that are not in English")
        for line in data.report.lines()
    )
    data = read_training_data([path])
    assert (len(data.graded), len(data.battles), data.report.not_english) == (4, 1, 0)


def test_what_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="paths is empty"):
        read_training_data([])
    with pytest.raises(InvalidInputError, match="can't be read"):
        read_training_data([tmp_path / "none.jsonl"])
    torn = write(tmp_path / "t.parquet.gz", GRADED)
    torn.write_bytes(torn.read_bytes()[:-9])
    with pytest.raises(
        InvalidInputError, match=r"t\.parquet\.gz can't be read: Compressed file ended"
    ):
        read_records(torn)
    with pytest.raises(InvalidInputError, match="turns must be one of first, last, all"):
        read_records(torn, turns="second")  # type: ignore[arg-type] # what is refused
    path = write(tmp_path / "t.jsonl", BATTLES)
    with pytest.raises(InvalidInputError, match="nothing is left to train on"):
        read_training_data([path], exclude=read_evaluation_prompts([path]))


def battle(preference: float, prompt: str = "p q", a: str = "x", b: str = "y") -> JudgedBattle:
    return JudgedBattle("f", "", prompt, a, b, preference, where=f"line {next(NUMBERS)}")


NUMBERS = iter(range(10**9))


def test_duplicates_and_conflicts_of_battles() -> None:
    rows = [
        battle(1.0),
        battle(0.0, "p  q", "y", "x"),  # the same, in other words
        battle(0.5, "r"),
        battle(1.0, "r"),
        battle(0.0, "r", "y", "x"),
        battle(1.0, a="z"),
    ]
    report = DataReport()
    assert clean(rows, [], report)[0] == [rows[0], rows[5]]
    assert (report.duplicates, report.conflicts) == (1, 3)
    assert report.examples["conflicts"] == [
        "x and y: " + "; ".join(f"f, {r.where}" for r in rows[2:5])
    ]
    averaged = clean(rows, [], DataReport(), "average")[0]
    assert [b.preference for b in averaged] == pytest.approx([1.0, (0.5 + 1 + 1) / 3, 1.0])


def test_duplicates_and_conflicts_of_scores() -> None:
    def row(scores: dict[str, float]) -> GradedResult:
        return GradedResult("f", "d", "p", scores)

    rows = [row({"x": 1.0, "y": 0.0}), row({"x": 1.0, "y": 1.0}), row({"x": 1.0}), row({"z": 0.5})]
    report = DataReport()
    assert clean([], rows, report)[1] == [row({"x": 1.0}), row({"z": 0.5})]
    assert (report.duplicates, report.conflicts) == (2, 2)
    averaged = clean([], rows, DataReport(), "average")[1]
    assert averaged == [row({"x": 1.0, "y": 0.5}), row({"z": 0.5})]


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.sampled_from("xyz"), st.booleans())))
def test_labels_add_up(labels: list[tuple[str, str, bool]]) -> None:
    rows = [GradedResult("f", "", p, {m: float(s)}) for p, m, s in labels]
    report = DataReport()
    kept = clean([], rows, report)[1]
    left = {(r.prompt, m): s for r in kept for m, s in r.scores.items()}
    assert len(left) + report.duplicates + report.conflicts == len(labels)
    for p, m in {(p, m) for p, m, _ in labels}:
        said = {s for q, n, s in labels if (q, n) == (p, m)}
        assert left.get((p, m)) == (float(said.pop()) if len(said) == 1 else None)


LONG = "Which of the following statements about the moon of the planet Jupiter is true today"


def test_evaluation_prompts_are_found() -> None:
    held = EvaluationPrompts([LONG, "2 + 2?", "???", "\u6708\u306f\u4f55\u3067\u3059\u304b"])
    assert held.match("2+2") == "exact"
    assert held.match(f"  {LONG.upper()}!") == "exact"
    assert held.match("???") == "exact"
    assert held.match("????") is None
    assert held.match("2 + 3?") is None
    words = LONG.split()  # 15 words, 8 of the 8-grams
    assert held.match(" ".join([*words[:13], "or", "else", "not"])) == "overlap"  # 6 of 9
    assert held.match(" ".join([*words[:11], "a", "b", "c", "d"])) is None  # 4 of 8: just half
    assert held.match(" ".join(words[:7])) is None  # too short to share an 8-gram


def test_the_share_is_of_one_evaluation_prompt() -> None:
    first, second = "a b c d e f g h i", "h i j k l m n o p q r"
    held = EvaluationPrompts([first, second])
    assert held.match("a b c d e f g h i j k l m n o p q") is None  # 2 + 3 of 10 grams
    assert held.match("z a b c d e f g h i") == "overlap"  # 2 of 3


def test_evaluation_prompts_are_removed_and_counted(tmp_path: Path) -> None:
    held = tmp_path / "held.txt"
    held.write_text(f"{LONG}\nwrite a poem\n")
    rows = [*BATTLES, {**BATTLES[0], "prompt": f"Please: {LONG}"}]
    data = read_training_data(
        [write(tmp_path / "t.jsonl", rows)], exclude=read_evaluation_prompts([held])
    )
    assert [b.prompt for b in data.battles] == ["write a song"]
    report = json.loads(json.dumps(data.report.as_json()))
    assert (report["excluded_exact"], report["excluded_overlap"]) == (1, 1)
    assert report["examples"]["excluded_overlap"] == ["t.jsonl, line 3"]
    assert (report["battles"], report["prompts"], report["models"]) == (1, 1, 2)
    assert "left: 1 battles and 0 graded results of 2 models on 1 prompts" in data.report.lines()


def test_an_evaluation_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"no file or folder .*RouteLLM"):
        read_evaluation_prompts([tmp_path / "RouteLLM"])
