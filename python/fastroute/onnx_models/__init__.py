"""Transformers in ONNX folders, run by onnxruntime: what embedders and routers of them share.

``folder`` finds or fetches the files, ``session`` opens the graph, ``token_model`` goes from text
to the model's answer in batches. All of it raises OnnxModelError for what a folder or a model does
wrong.
"""

from __future__ import annotations
