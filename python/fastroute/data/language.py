"""Which prompts count as English."""

from __future__ import annotations

import re

from fastroute.data.records import GradedResult, HarderPrompt, JudgedBattle, RatedPrompt, prompts_of

#: Share of letters of another script above which a prompt counts as not English.
MAX_FOREIGN_SHARE = 0.05
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
# AGIEval's Chinese part. The questions of gaokao_english are in English.
_CHINESE_DATASET = re.compile(r"agieval_(gaokao_(?!english)|jec_qa|logiqa_zh)")


def is_english(record: JudgedBattle | GradedResult | RatedPrompt | HarderPrompt) -> bool:
    """False for more than 5 % Chinese characters, and for AGIEval's Chinese datasets."""
    return not _CHINESE_DATASET.match(record.dataset) and all(
        len(_CHINESE.findall(prompt)) <= MAX_FOREIGN_SHARE * len(prompt)
        for prompt in prompts_of(record)
    )
