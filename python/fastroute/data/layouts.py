"""Rows to records: the layouts in which preference data comes.

Battles
    ``prompt``, ``model_a``, ``model_b``, and ``winner`` ("model_a", "model_b", "tie" or "tie
    (bothbad)") or ``preference`` (or ``pref_b``), how far b was preferred, 0 to 1.
Several verdicts a prompt
    ``prompt`` and ``battles``, a list of [model_a, model_b, preference]. A prompt that is a
    conversation, ``### Human: ... ### Assistant: ...``, is cut to what the user said last.
Chatbot Arena
    ``prompt``, a JSON list of the user's turns, ``model_a``, ``model_b``, and a 1 in one of
    ``winner_model_a``, ``winner_model_b`` and ``winner_tie``.
Graded results
    ``prompt`` and ``scores``, an object of model to score, 0 to 1 (in CSV as JSON); perhaps
    ``costs``, an object too, in dollars. Or a column a model, its costs in ``cost_<model>``; which
    columns those are is told by ``fastroute.data.columns``.
Labels
    ``prompt`` and ``label``, 1 to 5, a judge's mark for the weak model's answer next to the strong
    one's. It becomes a battle of "strong" and "weak", with the preference in the middle of those
    that ``causal_llm`` gives that label.
Difficulty, where it is asked for
    ``prompt`` and ``difficulty``, a number that is greater for harder prompts, perhaps
    ``standard_error``. Other columns are not read. Or ``prompt``, ``prompt_b`` and ``harder``:
    which is harder, "A", "B" or "tie", or how far the second is, 0 to 1.

All may have ``dataset``. Of a conversation the vote is on the whole, but a router sees one prompt:
by default the first turn, which RouteLLM takes, or the last, or all of them a blank line apart.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple, get_args

from fastroute.data.columns import NOT_MODELS, Columns, is_blank
from fastroute.data.records import GradedResult, HarderPrompt, JudgedBattle, RatedPrompt
from fastroute.data.row_files import Row
from fastroute.data.row_values import number_of, prompt_of
from fastroute.types import WINNERS

Turns = Literal["first", "last", "all"]
TURNS: tuple[Turns, ...] = get_args(Turns)

_ARENA = ("winner_model_a", "winner_model_b", "winner_tie")
_NOT_FLAT = (_ARENA[0], "battles", "model_a", "model_b", "label", "scores")
_PREFERENCES = {"model_a": 0.0, "model_b": 1.0, "tie": 0.5, "tie (bothbad)": 0.5}
#: How far "weak" was preferred to "strong", by label; see ``causal_llm.labels.EDGES``.
_OF_LABELS = (1 / 12, 1 / 4, 5 / 12, 5 / 8, 7 / 8)
_HARDER = {"a": 0.0, "b": 1.0, "tie": 0.5}
_HUMAN, _ASSISTANT = "### Human:", "### Assistant:"


class Parsed(NamedTuple):
    """What a row held; nothing where no turn had any text."""

    battles: list[JudgedBattle]
    graded: GradedResult | None
    repaired: bool = False
    difficulty: RatedPrompt | HarderPrompt | None = None


def is_flat(row: Row) -> bool:
    """Whether the row may have a score a column, so that ``parse_row`` needs ``Columns``."""
    return isinstance(row, dict) and not any(key in row for key in _NOT_FLAT)


def is_rated(row: Row) -> bool:
    """Whether the row says how hard prompts are, and nothing of models."""
    return (
        isinstance(row, dict)
        and is_flat(row)
        and any(name in row for name in ("difficulty", "prompt_b", "harder"))
    )


def parse_row(
    row: Row,
    file: str,
    where: str,
    columns: Columns,
    turns: Turns = "first",
    difficulty: bool = False,
) -> Parsed:
    """The records of a row of a table with ``columns``.

    ``difficulty``: take labels of difficulty, which are no scores of models. Raises ValueError that
    says what is wrong with the row.
    """
    if isinstance(row, str):
        raise ValueError(row)
    if _ARENA[0] in row:
        return _arena(row, file, where, turns)
    if isinstance(row.get("prompt"), list):
        row = {**row, "prompt": chosen_turns(row["prompt"], turns)}
    prompt, dataset = prompt_of(row), _dataset(row)
    if difficulty and is_rated(row):
        label = _difficulty(row, file, dataset, prompt, where)
        return Parsed([], None, difficulty=label)
    if "battles" in row:
        said = prompt
        if _HUMAN in prompt:
            said = prompt.split(_HUMAN)[-1].split(_ASSISTANT)[0].strip()
        battles = [
            JudgedBattle(file, dataset, said, *_models(a, b), preference, where=where)
            for a, b, preference in map(_verdict, _listed(row, "battles"))
        ]
        return Parsed(battles if said else [], None)
    if "model_a" in row or "model_b" in row:
        a, b = _models(row.get("model_a"), row.get("model_b"))
        preference, both_bad = _preference(row)
        return Parsed(
            [JudgedBattle(file, dataset, prompt, a, b, preference, both_bad, where)], None
        )
    if "label" in row and "scores" not in row:
        preference = _of_label(row)
        battle = JudgedBattle(file, dataset, prompt, "strong", "weak", preference, where=where)
        return Parsed([battle], None)
    scores, costs = _scores(row, columns)
    name = "" if is_blank(row.get("id")) else str(row["id"])
    return Parsed([], GradedResult(file, dataset, prompt, scores, costs, where, name))


def chosen_turns(turns: list[Any], which: Turns) -> str:
    """The prompt of a conversation whose turns are ``turns``; null and blank ones are no turns."""
    texts = [turn for turn in turns if turn is not None]
    if not all(isinstance(turn, str) for turn in texts):
        raise ValueError("'prompt' is a list with items that are not strings")
    said = [turn for turn in texts if turn.strip()]
    if which == "all":
        return "\n\n".join(said)
    return "" if not said else said[0 if which == "first" else -1]


def _arena(row: dict[str, Any], file: str, where: str, turns: Turns) -> Parsed:
    listed = row.get("prompt")
    if isinstance(listed, str):
        listed = _json(row, "prompt")
    if not isinstance(listed, list):
        raise ValueError("'prompt' is not the JSON list of turns that Chatbot Arena's data has")
    prompt = chosen_turns(listed, turns)
    votes = [number_of(row, key) for key in _ARENA]
    if sorted(votes) != [0.0, 0.0, 1.0]:
        raise ValueError(f"{', '.join(_ARENA)} are {votes}, where one must be 1 and the others 0")
    # JSON's escapes can spell half of a surrogate pair, and the published file has some.
    repaired = prompt.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not repaired.strip():
        return Parsed([], None)
    a, b = _models(row.get("model_a"), row.get("model_b"))
    preference = (0.0, 1.0, 0.5)[votes.index(1.0)]
    battle = JudgedBattle(file, _dataset(row), repaired, a, b, preference, where=where)
    return Parsed([battle], None, repaired != prompt)


def _dataset(row: dict[str, Any]) -> str:
    dataset = row.get("dataset")
    if dataset is not None and not isinstance(dataset, str):
        raise ValueError(f"'dataset' is {dataset!r}, not a string")
    return _unicode("'dataset'", dataset or "")


def _unicode(what: str, text: str) -> str:
    """``text``, if it can be written down: JSON's escapes can make a half of a character."""
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError(f"{what} is {text!a}, not Unicode text (it has a lone surrogate)")
    return text


def _models(a: object, b: object) -> tuple[str, str]:
    for key, model in (("model_a", a), ("model_b", b)):
        if not isinstance(model, str) or not model.strip():
            raise ValueError(f"{key!r} is {model!r}, not a model's name")
        _unicode(repr(key), model)
    if a == b:
        raise ValueError(f"model_a and model_b are both {a!r}: a battle needs two models")
    return str(a), str(b)


def _preference(row: dict[str, Any]) -> tuple[float, bool]:
    given = [key for key in ("winner", "preference", "pref_b") if row.get(key) not in (None, "")]
    if len(given) != 1:
        raise ValueError(
            f"has {' and '.join(given) or 'no verdict'}; one of winner, preference and pref_b is "
            "needed"
        )
    if given[0] != "winner":
        return _unit(row, given[0]), False
    winner = row["winner"]
    if winner not in WINNERS:
        possible = ", ".join(map(repr, WINNERS))
        raise ValueError(f"'winner' is {winner!r}; it must be one of {possible}")
    return _PREFERENCES[winner], winner == "tie (bothbad)"


def _verdict(verdict: Any) -> tuple[str, str, float]:
    if isinstance(verdict, dict):
        a, b = verdict.get("model_a"), verdict.get("model_b")
        return *_models(a, b), _preference(verdict)[0]
    if not isinstance(verdict, (list, tuple)) or len(verdict) != 3:
        raise ValueError(f"a battle is {verdict!r}, not [model_a, model_b, preference]")
    a, b, preference = verdict
    return *_models(a, b), _unit({"preference": preference}, "preference")


def _of_label(row: dict[str, Any]) -> float:
    others = [key for key in row if key != "label" and key not in NOT_MODELS]
    if others:
        raise ValueError(
            f"has a 'label' and {', '.join(others)}; a row has a label or scores, not both"
        )
    label = number_of(row, "label")
    if label not in (1, 2, 3, 4, 5) or isinstance(row["label"], bool):
        raise ValueError(f"'label' is {row['label']!r}; it must be a whole number from 1 to 5")
    return _OF_LABELS[int(label) - 1]


def _difficulty(
    row: dict[str, Any], file: str, dataset: str, prompt: str, where: str
) -> RatedPrompt | HarderPrompt:
    if "prompt_b" not in row and "harder" not in row:
        error = 0.0 if is_blank(row.get("standard_error")) else number_of(row, "standard_error")
        if error < 0.0:
            raise ValueError(f"'standard_error' is {error}, below 0")
        return RatedPrompt(file, dataset, prompt, number_of(row, "difficulty"), error, where)
    other = row.get("prompt_b")
    prompt_b = prompt_of({"prompt": other}) if isinstance(other, str) and other.strip() else ""
    if not prompt_b:
        raise ValueError(f"'prompt_b' is {other!r}, not a string")
    if prompt_b.split() == prompt.split():
        raise ValueError("'prompt' and 'prompt_b' are the same text")
    said = row.get("harder")
    harder = _HARDER.get(said.strip().lower()) if isinstance(said, str) else None
    if harder is None:
        try:
            harder = _unit(row, "harder")
        except ValueError as error:
            raise ValueError(
                f"{error}; 'harder' must be 'A' (prompt), 'B' (prompt_b), 'tie', or how far "
                "prompt_b is harder, 0 to 1"
            ) from None
    return HarderPrompt(file, dataset, prompt, prompt_b, harder, where)


def _scores(row: dict[str, Any], columns: Columns) -> tuple[dict[str, float], dict[str, float]]:
    if "scores" in row:
        scores = _object(row, "scores")
        costs = {} if is_blank(row.get("costs")) else _object(row, "costs")
    else:
        scores, costs = columns.scores(row), columns.costs(row)
    scores = {str(m): s for m, s in scores.items() if not is_blank(s)}
    costs = {str(m): c for m, c in costs.items() if not is_blank(c)}
    if not scores:
        if is_rated(row):
            raise ValueError(
                "has a label of difficulty and no score; only fastroute train mf learns from that"
            )
        raise ValueError("has neither a battle nor any score; see the layouts in the documentation")
    for model in scores | costs:
        _unicode("a model's name", model)
    paid = {model: number_of(costs, model) for model in costs}
    for model, cost in paid.items():
        if cost < 0:
            raise ValueError(f"cost of {model!r} is {cost}, below 0")
    return {model: number_of(scores, model) for model in scores}, paid


def _unit(row: dict[str, Any], key: str) -> float:
    value = number_of(row, key)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{key!r} is {value}, outside 0..1; divide by the greatest possible")
    return value


def _json(row: dict[str, Any], key: str) -> Any:
    try:
        return json.loads(row[key])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{key!r} is not JSON ({error})") from error


def _listed(row: dict[str, Any], key: str) -> list[Any]:
    value = _json(row, key) if isinstance(row[key], str) else row[key]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{key!r} is not a list of [model_a, model_b, preference]")
    return value


def _object(row: dict[str, Any], key: str) -> dict[str, Any]:
    value = _json(row, key) if isinstance(row[key], str) else row[key]
    if isinstance(value, list):  # how pyarrow gives a map
        try:
            value = dict(value)
        except (TypeError, ValueError):
            value = None
    if not isinstance(value, dict):
        raise ValueError(f"{key!r} is not an object of numbers by model")
    return value
