"""A canary's router, and who gets it: the stage is in the journal, which a thread reads."""

from __future__ import annotations

import contextlib
import logging
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from fastroute.decider import Decider
from fastroute.errors import JournalError
from fastroute.gateway.config.candidates import PolicyConfig
from fastroute.gateway.config.rollout import router_choice
from fastroute.gateway.config.settings import Config
from fastroute.gateway.operations.logs import log
from fastroute.gateway.request.candidates import candidate_decider
from fastroute.many_models import CandidateDecider
from fastroute.rollout.canary import CANARY, GRACE_S, STALE, Canary

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from fastroute.gateway.gateway import Gateway

#: How folders of routers begin that [learn] has proposed.
PROPOSED = "proposed-"


class CanaryRouter:
    """The new router, or the new choice among candidates, and which conversations it has now.

    A state of another router is replaced by a new canary; one of the same router goes on.

    Attributes:
        folder: of a router that was proposed; "" of the one that the configuration names.
        router, threshold: of a pair.
    """

    def __init__(self, config: Config, folder: str = "") -> None:
        section, routing = config.canary, config.routing
        assert section is not None
        self.folder, self._chooser = folder, None
        if config.candidates:
            policy = _canary_policy(config, folder or section.router)
            self._chooser = candidate_decider(config, policy)
            router = self.chooser.router
            checksum = None if router is None else router.provenance.checksum
            self._label = f"{checksum or 'priors'} with {policy.choose}"
        else:
            self.router = router_choice(f"mf={folder}" if folder else section.router or "").make()
            # It checks that the router is one for these models, and has the default.
            decider = Decider([self.router], routing.strong_model, routing.weak_model)
            own = decider.default_threshold(self.router.name)
            self.threshold = own if section.threshold is None else section.threshold
            name = self.router.provenance.checksum or section.router
            self._label = f"{name} at {self.threshold:g}"
        self._section = section
        self._state: Canary | None = None
        self._version, self._read_s = 0, 0.0

    @property
    def chooser(self) -> CandidateDecider:
        """What chooses among candidates."""
        assert self._chooser is not None
        return self._chooser

    def arm(self, conversation: bytes) -> str | None:
        """Which router a conversation gets, "canary" or "control"; None, the old one, while the
        stage is not known, or another process has begun with another router."""
        state = self._state
        if state is None or state.router != self._label:
            return None
        return state.arm(conversation.hex())

    def noted(self, arm: str | None) -> str | None:
        """What the journal has for ``arm``: "stale" where the stage has not been read of late."""
        is_recent = time.monotonic() - self._read_s < GRACE_S
        return arm if is_recent or arm is None else STALE

    def follow(self, engine: Engine) -> None:
        """Read the stage; at first begin, where the canary is of another router. Raises as
        SQLAlchemy does, and InvalidInputError."""
        from fastroute.rollout.states import change, read_newer

        def begin(before: Canary | None) -> Canary | None:
            if before is not None and before.router == self._label:
                return None
            return Canary.start(self._label, self._section.rules, time.time(), self.folder)

        if not self._version:
            change(engine, Canary, begin)
        newer = read_newer(engine, Canary, self._version)
        if newer is not None:
            self._version, self._state = newer
        self._read_s = time.monotonic()

    def carry(self, before: CanaryRouter | None) -> None:
        """Go on with the stage that ``before`` knows, if it is of the same router and this one has
        not read it."""
        if before is not None and self._state is None and before._label == self._label:
            self._state, self._read_s = before._state, before._read_s


def _canary_policy(config: Config, router: str | None) -> PolicyConfig:
    """How the canary chooses among candidates: as beside its router, unless its section says."""
    assert config.canary is not None
    choose = config.canary.policy
    if router is not None and choose is None:
        with contextlib.suppress(OSError, ValueError, KeyError):  # another file, or none
            beside = tomllib.loads(Path(router, "gateway.toml").read_text("utf-8"))
            choose = PolicyConfig(choose=beside["policy"]["choose"]).choose
    changed = {"choose": choose, "router": router}
    return config.policy.model_copy(update={k: v for k, v in changed.items() if v is not None})


def begin_canary(gateway: Gateway) -> None:
    """Give ``gateway`` the canary of its configuration, at its stage; without the database at none,
    until it is back. Raises as routers do."""
    journal = gateway.config.journal
    if gateway.config.canary is None or journal is None:
        return
    from sqlalchemy.exc import SQLAlchemyError

    from fastroute.journal.database import open_journal, reason

    try:
        engine = open_journal(journal.url, password=journal.password)
        try:
            renew_canary(gateway, engine)
        finally:
            engine.dispose()
    except (JournalError, SQLAlchemyError) as error:
        log("the canary's stage can't be read", logging.ERROR, reason=reason(error))
        renew_canary(gateway, None)


def renew_canary(gateway: Gateway, engine: Engine | None) -> None:
    """Let the canary of ``gateway`` read its stage. Where its section names no router, it is of the
    latest that ``[learn]`` has proposed, once the one before is rolled back.

    Raises as routers and SQLAlchemy do, and InvalidInputError.
    """
    from fastroute.rollout.states import read, take_over

    config, found = gateway.config, gateway.canary
    section, folder = config.canary, ""
    if section is None:
        return
    if engine is not None:
        take_over(engine, Canary, Path(section.state))
    if section.router is None and section.policy is None:
        assert config.learn is not None
        if engine is None:
            return
        state = read(engine, Canary)
        is_on = state is not None and state.status != "reverted" and state.folder
        proposed = Path(config.learn.output).glob(f"{PROPOSED}*")
        folder = state.folder if state and is_on else max(map(str, proposed), default="")
        if not folder:
            return
    is_same = found is not None and found.folder == folder
    if found is None or not is_same:
        found = CanaryRouter(config, folder)
    if engine is not None:
        found.follow(engine)
    if is_same:
        return
    if not config.candidates:  # a router beside the others
        gateway.decider.routers = {**gateway.decider.routers, CANARY: found.router}
    gateway.canary = found
    log("canary", router=section.router or folder)
