"""What stands around a prompt when a model is asked for its label, from a checkpoint's files.

A folder says it in ``fastroute_router.json``, which ``fastroute export`` and ``fastroute train``
write, in the layout of RouteLLM's checkpoints (``system_ft*.txt`` and ``classifier_ft*.txt`` beside
the tokenizer's chat template), or not at all. No code of a folder is ever executed: a chat template
is rendered in Jinja's sandbox.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastroute.errors import (
    InvalidInputError,
    MissingDependencyError,
    OnnxModelError,
    ScoringError,
)
from fastroute.onnx_models import folder as model_folder
from fastroute.routers.causal_llm.tokenizer import open_tokenizer

TEMPLATE_FILE = "fastroute_router.json"
FORMAT = "fastroute-causal-llm"
SCHEMA_VERSION = 1

#: RouteLLM's label tokens: how well the weak model would answer, from badly to as well.
LABEL_TOKENS = ("[[1]]", "[[2]]", "[[3]]", "[[4]]", "[[5]]")

#: Where nothing else is given; trained models carry their own.
DEFAULT_SYSTEM_PROMPT = (
    "You rate how well a small language model would answer a user's question, from 1 (far worse "
    "than a large one) to 5 (as well). Answer with one label from [[1]] to [[5]]."
)
DEFAULT_QUESTION_TEMPLATE = "[Question]\n{question}\n[End of question]\n\nLabel:"

_QUESTION = "{question}"
_MARK = "fastroute:question"  # stands for the prompt while a chat template is rendered


@dataclass(frozen=True, slots=True)
class LabelTemplate:
    """The text before and after a prompt, and the tokens that answer."""

    prefix: str  #: all text before the prompt, special tokens written out
    suffix: str  #: all text after it; the next token is the label
    label_tokens: tuple[str, ...] = LABEL_TOKENS  #: the five labels, worst first
    #: the longest input, all included; None where the folder doesn't say.
    max_tokens: int | None = None


def read_template(folder: Path) -> LabelTemplate:
    """The template that ``folder`` asks for. Raises ScoringError if it has none, or a bad one."""
    path = folder / TEMPLATE_FILE
    if path.is_file():
        return _read_own(path)
    systems, questions = (
        sorted(folder.glob("system_ft*.txt")),
        sorted(folder.glob("classifier_ft*.txt")),
    )
    if not systems or not questions:
        raise ScoringError(
            f"{str(folder)!r} has no {TEMPLATE_FILE}, which defines the text around a prompt; "
            "export the checkpoint by `fastroute export causal_llm`, or train it by `fastroute "
            "train causal_llm`: both write it"
        )
    return render_template(
        folder, system=_read_text(systems[-1]), question=_read_text(questions[-1])
    )


def template_json(template: LabelTemplate, **facts: Any) -> str:
    """The content of ``fastroute_router.json``; ``facts`` are for its readers."""
    fields = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "prefix": template.prefix,
        "suffix": template.suffix,
        "label_tokens": list(template.label_tokens),
        "max_tokens": template.max_tokens,
    }
    return json.dumps(fields | facts, indent=2, ensure_ascii=False) + "\n"


def render_template(
    folder: Path,
    *,
    system: str = DEFAULT_SYSTEM_PROMPT,
    question: str = DEFAULT_QUESTION_TEMPLATE,
    chat_template: str | None = None,
    label_tokens: tuple[str, ...] = LABEL_TOKENS,
) -> LabelTemplate:
    """Render a system prompt and a question template by the chat template of ``folder``.

    Args:
        folder: holds the tokenizer's files.
        system: what the model is told first; may be empty.
        question: the user's turn, with ``{question}`` once, where the prompt goes.
        chat_template: Jinja text; by default the folder's own. Where neither is there, system and
            question are put one after the other behind the tokenizer's first special token.
        label_tokens: the five labels, worst first.

    Raises InvalidInputError for a question template without ``{question}``, ScoringError where the
    chat template can't be rendered, MissingDependencyError if that needs jinja2.
    """
    if question.count(_QUESTION) != 1:
        raise InvalidInputError(
            "the question template must hold {question} exactly once, where the prompt goes, got "
            f"{question.count(_QUESTION)} of them"
        )
    system = system.strip()
    marked = question.strip().replace(_QUESTION, _MARK)
    config = read_object(folder / "tokenizer_config.json")
    chat = chat_template or _chat_template_of(folder, config)
    if chat is None:
        text = _first_token(folder, config) + "\n\n".join(part for part in (system, marked) if part)
        text += " " if not text[-1].isspace() else ""
    else:
        text = _render(chat, system, marked, config)
    pieces = text.split(_MARK)
    if len(pieces) != 2:
        raise ScoringError(
            f"the chat template of {str(folder)!r} shows the user's text {len(pieces) - 1} times; "
            "pass another chat template"
        )
    return LabelTemplate(pieces[0], pieces[1], label_tokens)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; empty where there is no such file."""
    try:
        return model_folder.read_object(path)
    except OnnxModelError as error:
        raise ScoringError(str(error)) from error


def longest_input(folder: Path) -> int | None:
    """The longest input, in tokens, for which the model of ``folder`` is defined and exact.

    The least of its positions, of its tokenizer's limit, and of a sliding window: in a shorter
    input the window covers all, so that padding can't move anything out of it.
    """
    config = read_object(folder / "config.json")
    slides = config.get("use_sliding_window", True)
    limits = [
        config.get("max_position_embeddings"),
        config.get("sliding_window") if slides else None,
        read_object(folder / "tokenizer_config.json").get("model_max_length"),
    ]
    known = [int(n) for n in limits if isinstance(n, (int, float)) and 0 < n < 1_000_000]
    return min(known, default=None)


def _read_own(path: Path) -> LabelTemplate:
    said = read_object(path)
    if said.get("format") != FORMAT:
        raise ScoringError(f"{str(path)!r} has the format {said.get('format')!r}, not {FORMAT!r}")
    if said.get("schema_version") != SCHEMA_VERSION:
        raise ScoringError(
            f"{str(path)!r} has the schema version {said.get('schema_version')!r}, and this "
            f"fastroute reads {SCHEMA_VERSION}; upgrade fastroute, or export again"
        )
    tokens, limit = said.get("label_tokens"), said.get("max_tokens")
    texts = (said.get("prefix"), said.get("suffix"))
    if (
        not all(isinstance(text, str) for text in texts)
        or not isinstance(tokens, list)
        or len(tokens) != len(LABEL_TOKENS)
        or len(set(map(str, tokens))) != len(tokens)
        or not all(isinstance(token, str) and token for token in tokens)
        or not (limit is None or (type(limit) is int and limit > 0))
    ):
        raise ScoringError(
            f"{str(path)!r} must hold prefix and suffix (text), label_tokens (five different "
            "tokens, worst first) and max_tokens (a count, or null)"
        )
    return LabelTemplate(str(texts[0]), str(texts[1]), tuple(tokens), limit)


def _chat_template_of(folder: Path, config: dict[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return _read_text(file)
    said = config.get("chat_template")
    if isinstance(said, list):  # several by name
        named = {t.get("name"): t.get("template") for t in said if isinstance(t, dict)}
        said = named.get("default")
    return said if isinstance(said, str) else None


def _render(chat: str, system: str, user: str, config: dict[str, Any]) -> str:
    try:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise MissingDependencyError(
            "rendering a chat template needs jinja2: pip install jinja2 (a folder written by "
            "`fastroute export causal_llm` doesn't need it)"
        ) from error

    def refuse(message: str) -> None:
        raise TemplateError(message)

    # As transformers sets it up, but without a clock: a template must not change with the date.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    names = {name: _token_text(config.get(name)) for name in ("bos_token", "eos_token")}
    both = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    merged = [{"role": "user", "content": f"{system}\n\n{user}"}]  # some know no system role
    failure: Exception | None = None
    for messages in (both, merged) if system else (both[1:],):
        try:
            template = environment.from_string(chat)
            text = template.render(messages=messages, add_generation_prompt=True, **names)
            return str(text)
        except Exception as error:  # a template is a program: it can fail in any way
            failure = failure or error
    raise ScoringError(
        f"the chat template can't be rendered: {type(failure).__name__}: {failure}"
    ) from failure


def _first_token(folder: Path, config: dict[str, Any]) -> str:
    """The text of the token that the tokenizer puts first, if it puts one."""
    bos = _token_text(config.get("bos_token"))
    tokenizer = open_tokenizer(folder)
    first = tokenizer.encode("a").ids[:1]
    return bos if bos and first == [tokenizer.token_to_id(bos)] else ""


def _token_text(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScoringError(f"{str(path)!r} can't be read: {error}") from error
