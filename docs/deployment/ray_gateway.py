"""The gateway on Ray Serve: as ``fastroute serve``, in replicas that Ray starts and scales.

In this folder, with ``pip install "fastroute[serve,ray]"`` and a ``gateway.toml``::

    serve run ray_gateway:app

Replicas share conversations, budgets and breakers by ``[state]`` in the configuration. Without
``[[keys]]``, its ``host`` must be the address that Ray Serve listens on.
"""

from __future__ import annotations

import os

from ray import serve

from fastroute.gateway.asgi import GatewayApp


@serve.deployment(
    num_replicas=int(os.environ.get("REPLICAS", "2")),
    max_ongoing_requests=1024,  # as max_concurrency of the configuration
    ray_actor_options={"num_cpus": 1},
)
@serve.ingress(GatewayApp(os.environ.get("FASTROUTE_CONFIG", "gateway.toml")))
class Gateway:
    """One replica."""


app = Gateway.bind()
