"""The words that synthetic prompts are made of."""

from __future__ import annotations

_COMMON = """
a about above according after all also an and another answer any applies are argument as at
because been before best between body both business but by called can case cause cells change
child city claim common company condition cost country court data day decision describe
development different difference does during each economic effect energy equation evidence
example explain following for force form from function given government group had has have her
high his history how human if important in increase information into is it its known language
large law least level life likely line many market mass may means method model money more most
must nature new not number of on one only or order other over part patient people person point
policy population power price problem process production provide public rate reaction reason
relationship result right same school set several should small social some state statement
students study such system temperature than that the their then theory there these they this
through time to total true two under use used value was water were what when where which while
who why will with without woman work world would write year young
"""

_SYLLABLES = """
al an ar ban bel ber cal cor den dis do el en er fin ga gen gram ic in ion is ist kin lam lo
mar men mo na ne nom or os per phen po pro ra ri ro sal sen ser ta ten ti tor tri um un ver vi
"""

COMMON_WORDS: tuple[str, ...] = tuple(_COMMON.split())
SYLLABLES: tuple[str, ...] = tuple(_SYLLABLES.split())
