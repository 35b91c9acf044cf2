"""The ``causal_llm`` router: a decoder is asked for one of five labels.

``router`` makes win rates of the labels' probabilities, which an ``engine`` gives: by onnxruntime
here (``onnx_engine``) or from a model that is served (``completions_engine``). Both ask by
``prompt``: the user's text, truncated, in the ``template`` of the model's folder, as tokens of
its ``tokenizer``.
"""
