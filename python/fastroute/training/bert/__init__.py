"""Training of ``bert`` routers: an encoder is fine-tuned, exported to ONNX, and calibrated.

torch and transformers are imported only by what runs
(``pip install "fastroute[train-transformers]"``).
"""

from __future__ import annotations
