"""Training of ``causal_llm``: a decoder with five label tokens is fine-tuned and exported to ONNX.

torch and transformers are imported only by what runs.
"""

from __future__ import annotations
