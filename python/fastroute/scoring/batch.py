"""Scores the prompts of a table: what each process, and each actor of Ray Data, holds."""

from __future__ import annotations

from typing import Any

from fastroute.decider import Decider
from fastroute.errors import InvalidInputError
from fastroute.routers.specification import parse_router
from fastroute.scoring.files import arrow

#: The columns that a scored table has behind its own.
SCORES = ("win_rate", "difficulty", "strong", "error")


class BatchScorer:
    """Adds win rates and decisions to Arrow tables with a column of prompts.

    It is a class for ``map_batches`` of Ray Data, where each actor makes its own router::

        dataset.map_batches(
            BatchScorer, fn_constructor_kwargs={"router": "mf"}, batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=4),
        )

    Args:
        router: as on the command line: ``NAME``, ``NAME=FOLDER`` or ``NAME,key=value``.
        column: which one has the prompts, as strings.
        threshold, strong_share: as ``Decider.decide``.

    Raises as ``create_router`` and ``Decider.decide_batch``.
    """

    def __init__(
        self,
        router: str,
        *,
        column: str = "prompt",
        threshold: float | None = None,
        strong_share: float | None = None,
    ) -> None:
        self.column = column
        self._decider = Decider([parse_router(router).make()], "strong", "weak")
        name = self._decider.default_router
        #: What decides: ``win_rate >= threshold`` is strong.
        self.threshold = self._decider.decide_batch(
            [], None, threshold, strong_share=strong_share
        ).threshold
        #: The checksum of the router's artifact; None for one without.
        self.checksum = self._decider.routers[name].provenance.checksum

    def __call__(self, table: Any) -> Any:
        """``table`` (a ``pyarrow.Table``) with four more columns; those that it has are replaced.

        ``win_rate`` and ``difficulty`` (double), ``strong`` (bool), ``error`` (string): why a row
        has no scores, or null. ``difficulty`` is null for a router without calibration.
        """
        if self.column not in table.column_names:
            raise InvalidInputError(
                f"column {self.column!r} is missing; the columns are "
                f"{', '.join(map(repr, table.column_names))}"
            )
        prompts, errors = _texts(table.column(self.column))
        scores = self._scores(prompts, errors)
        for name, values in zip(SCORES, scores, strict=True):
            if name in table.column_names:
                table = table.drop_columns([name])
            table = table.append_column(name, values)
        return table

    def _scores(self, prompts: list[Any], errors: list[str | None] | None) -> list[Any]:
        import numpy as np

        pa = arrow()
        good = prompts if errors is None else [p for p in prompts if p is not None]
        try:
            batch = self._decider.decide_batch(good, None, self.threshold)
        except InvalidInputError:  # of one prompt: the others are scored without it
            if len(good) == 1:
                raise
            batch = None
        if batch is None:
            return self._one_by_one(prompts, errors or [None] * len(prompts))
        columns = [batch.win_rates, batch.difficulties, batch.strong]
        if errors is not None:
            said = np.array([p is not None for p in prompts])
            for i, column in enumerate(columns):
                if column is not None:
                    wide = np.zeros(len(prompts), column.dtype)
                    wide[said] = column
                    columns[i] = pa.array(wide, mask=~said)
        rates, difficulties, strong = columns
        missing = pa.nulls(len(prompts), pa.float64()) if difficulties is None else difficulties
        reasons = pa.nulls(len(prompts), pa.string()) if errors is None else errors
        return [
            pa.array(rates),
            pa.array(missing),
            pa.array(strong),
            pa.array(reasons, pa.string()),
        ]

    def _one_by_one(self, prompts: list[Any], errors: list[str | None]) -> list[Any]:
        pa = arrow()
        tables = []
        for prompt, error in zip(prompts, errors, strict=True):
            try:
                tables.append(self._scores([prompt], None if error is None else [error]))
            except InvalidInputError as refused:
                tables.append(self._scores([None], [str(refused)]))
        return [pa.concat_arrays(columns) for columns in zip(*tables, strict=True)]


def _texts(column: Any) -> tuple[list[Any], list[str | None] | None]:
    """The column's texts, None where one can't be had, and why; None if there are all."""
    pa = arrow()
    types = pa.types
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind)):
        raise InvalidInputError(f"the prompts are {column.type}, where string is needed")
    try:
        texts: list[Any] = column.to_numpy(zero_copy_only=False).tolist() if len(column) else []
    except (ValueError, pa.ArrowException):  # bytes that are not UTF-8
        texts = [_text(value) for value in column]
    if not column.null_count and None not in texts:
        return texts, None
    return texts, [
        None if text is not None else "not UTF-8 text" if value.is_valid else "the prompt is null"
        for text, value in zip(texts, column, strict=True)
    ]


def _text(value: Any) -> str | None:
    try:
        text: str | None = value.as_py()
    except ValueError:
        return None
    return text
