"""A chat server that keeps connections and has forgotten them at their second request.

So do providers whose pods were replaced behind an address: the client's next bytes are answered by
a reset, and not by a byte.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from fakes import openai_chat, planned


def start() -> AbstractContextManager[planned.Server]:
    """Run the server in another process until the block ends."""
    return planned.start("fakes.forgetful")


class Handler(openai_chat.Handler):
    served = 0  # by this connection

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        if self.path == self.path_served:
            self.served += 1
        if self.served > 1:
            self.reset()
        else:
            super().do_POST()


if __name__ == "__main__":
    planned.serve(Handler)
