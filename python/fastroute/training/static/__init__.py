"""Training of the ``static`` embedder: a table of token vectors, distilled from an encoder.

``encoder`` opens the sentence encoder, ``token_table`` makes a table of it, and ``distillation``
makes several, with what each is worth and costs.
"""

from __future__ import annotations
