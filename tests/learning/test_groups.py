"""Near-duplicates stay together, and prompts of a router's training are found."""

from __future__ import annotations

import numpy as np
import pytest

from fastroute.artifacts import prompt_hash
from fastroute.learning.tune.groups import folds_of_groups, group_prompts, hashed_order
from fastroute.learning.tune.seen import trained_on

_WORDS = [f"word{i}" for i in range(2000)]


def _text(rng: np.random.Generator, words: int = 30) -> str:
    return " ".join(rng.choice(_WORDS, words))


def test_different_prompts_are_groups_of_their_own() -> None:
    rng = np.random.default_rng(0)
    groups = group_prompts([_text(rng) for _ in range(200)])
    assert (groups.count, groups.largest) == (200, 1)


@pytest.mark.parametrize(
    "other",
    [
        "WHAT is 12 + 7,   exactly?",
        "What is 3 + 99 exactly",
    ],
)
def test_case_punctuation_and_numbers_make_no_difference(other: str) -> None:
    groups = group_prompts(["What is 12 + 7 exactly?", "Who was it?", other])
    assert groups.ids.tolist() == [0, 1, 0]


def test_most_of_the_words_make_a_near_duplicate_in_either_order() -> None:
    rng = np.random.default_rng(1)
    long = _text(rng, 60)
    others = [_text(rng) for _ in range(50)]
    for prompts in ([long, *others, f"{_text(rng, 20)} {long}"], [f"{long} more", *others, long]):
        groups = group_prompts(prompts)
        assert groups.ids[0] == groups.ids[-1]
        assert groups.count == 51


def test_every_pair_of_a_chain_of_templates_is_found() -> None:
    rng = np.random.default_rng(2)
    template = _text(rng, 30)
    prompts = [f"{template} {_text(rng, 6)}" for _ in range(30)] + [_text(rng) for _ in range(300)]
    order = rng.permutation(len(prompts))
    groups = group_prompts([prompts[i] for i in order])
    of_template = groups.ids[order < 30]
    assert len(set(of_template.tolist())) == 1
    assert groups.count == 301


def test_boilerplate_around_every_prompt_does_not_make_them_one_group() -> None:
    rng = np.random.default_rng(3)
    system = _text(rng, 80)
    prompts = [f"{system} {_text(rng, 12)}" for _ in range(400)]
    groups = group_prompts([*prompts, prompts[5] + " please"])
    assert groups.boilerplate > 0.9
    assert groups.count == 400
    assert groups.ids[5] == groups.ids[-1]


def test_prompts_without_words_are_compared_as_they_stand() -> None:
    assert group_prompts(["???", "!!!", "???"]).ids.tolist() == [0, 1, 0]


def test_a_group_is_in_one_fold_and_folds_are_equal() -> None:
    ids = np.repeat(np.arange(40), np.arange(40) % 5 + 1)
    folds = folds_of_groups(ids, 5, seed=0)
    for group in range(40):
        assert len(set(folds[ids == group].tolist())) == 1
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 2


def test_the_split_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(4)
    prompts = [_text(rng) for _ in range(20)]
    backwards = prompts[::-1]
    first = hashed_order(prompts, group_prompts(prompts), 0)
    again = hashed_order(backwards, group_prompts(backwards), 0)
    assert first.tolist() == again[::-1].tolist()
    assert first.tolist() != hashed_order(prompts, group_prompts(prompts), 1).tolist()


_WRAPS = [
    "{}",
    "  {}\n",
    "You are a helpful assistant.\n{}\nAnswer briefly.",
    "Question: {}",
    "Answer the question: {} Think step by step.",
    'The user says "{}" and waits.',
    "<query>{}</query>",
    "```\n{}\n```",
    "### System\nBe kind.\n\n### User\n{}\n\n### Assistant\n",
]


@pytest.mark.parametrize("wrap", _WRAPS)
@pytest.mark.parametrize(
    "original", ["one line of a prompt, {} of them", "two lines\nof prompt {}."]
)
def test_a_wrapped_training_prompt_is_found(wrap: str, original: str) -> None:
    originals = [original.format(f"number {i} and more") for i in range(40)]
    hashes = np.sort(np.array([prompt_hash(p) for p in originals], dtype=np.uint64))
    found = trained_on([wrap.format(p) for p in originals], hashes)
    assert found.all(), wrap
    others = [wrap.format(f"another prompt {i} of ours") for i in range(40)]
    assert not trained_on(others, hashes).any()


def test_a_wrap_that_all_share_is_taken_off_without_any_mark() -> None:
    originals = [f"say {word} to everybody here" for word in _WORDS[:50]]
    hashes = np.sort(np.array([prompt_hash(p) for p in originals], dtype=np.uint64))
    assert trained_on([f"Please do this now {p} and do it well" for p in originals], hashes).all()


def test_one_long_prompt_takes_a_bounded_time() -> None:
    hashes = np.array([1], dtype=np.uint64)
    assert not trained_on(["line: of text. " * 200_000, "a\n" * 100_000], hashes).any()
