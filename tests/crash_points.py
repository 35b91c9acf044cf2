"""Kills a save at each of its system calls, or fills the disk, and says what loads afterwards.

``python crash_points.py crash KIND FOLDER`` prints a JSON list of [point, exit status, what loads,
what loads after a second save, which other files that leaves]. It forks, so it runs alone.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastroute.artifacts import load_artifact, save_artifact
from fastroute.errors import ArtifactError
from fastroute.routers import SimilarityWeightedRouter, create_router
from fastroute.routers.cascade.artifact import save_cascade

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "fcntl.flock"}
Save = Callable[[Path], None]


def plain() -> tuple[Save, Save, Callable[[Path], Any]]:
    """Arrays and files, of which one goes and one comes."""

    def save(value: float, files: dict[str, bytes]) -> Save:
        return lambda target: save_artifact(
            target,
            kind="mf",
            config={"value": value},
            arrays={"x": np.full(3000, value)},
            files=files,
        )

    def read(target: Path) -> Any:
        found = load_artifact(target)
        return found.config["value"], found.arrays["x"].sum(), sorted(found.files.items())

    return (
        save(1.0, {"a.json": b"old", "gone.md": b"old"}),
        save(2.0, {"a.json": b"new", "more.md": b"new"}),
        read,
    )


def sw_ranking(**options: Any) -> tuple[Save, Save, Callable[[Path], Any]]:
    """A router with large files, mapped."""
    queries = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)

    def fit(seed: int) -> SimilarityWeightedRouter:
        rng = np.random.default_rng(seed)
        models = np.array(["a", "b", "c"])
        first = rng.integers(0, 3, 400)
        second = (first + rng.integers(1, 3, 400)) % 3
        router = SimilarityWeightedRouter(strong_model="a", weak_model="b", num_tiers=3, **options)
        winner = rng.choice(["model_a", "model_b"], 400)
        embeddings = rng.normal(size=(400, 8)).astype(np.float32)
        return router.fit(embeddings, models[first].tolist(), models[second].tolist(), winner)

    def read(target: Path) -> Any:
        router = SimilarityWeightedRouter.load(target, verify=True)
        return router.win_rates_from_embeddings(queries).tolist()

    return fit(1).save, fit(2).save, read


def far_field() -> tuple[Save, Save, Callable[[Path], Any]]:
    """A router with an index beside its rows."""
    return sw_ranking(mode="far_field", index="HNSW8", max_error=0.5)


def cascade() -> tuple[Save, Save, Callable[[Path], Any]]:
    """Two routers by name."""

    def save(half_length: int) -> Save:
        fast, slow = {"router": "length"}, {"router": "length", "half_length": half_length}
        made = create_router("cascade", fast=fast, slow=slow, band=(0.0, 1.0))
        return lambda target: save_cascade(target, made, fast=fast, slow=slow)

    def read(target: Path) -> Any:
        return create_router("cascade", checkpoint_path=target).win_rate("how long is this?")

    return save(50), save(500), read


KINDS = {"plain": plain, "sw_ranking": sw_ranking, "far_field": far_field, "cascade": cascade}


def _in_a_fork(save: Save, target: Path, prepare: Callable[[], None]) -> int:
    """Its exit status: 0 saved, 1 ArtifactError, -9 killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    prepare()
    try:
        save(target)
    except ArtifactError:
        os._exit(1)
    except BaseException:
        os._exit(2)
    os._exit(0)


def _kill_at(stop: int) -> Callable[[], None]:
    def prepare() -> None:
        count = 0

        def step() -> None:
            nonlocal count
            if count == stop:
                os.kill(os.getpid(), 9)
            count += 1

        def hook(event: str, _: tuple[Any, ...]) -> None:
            if event in EVENTS:
                step()

        fsync = os.fsync

        def counted(handle: int) -> None:
            step()
            fsync(handle)

        os.fsync = counted
        sys.addaudithook(hook)

    return prepare


def _no_file_beyond(size: int) -> Callable[[], None]:
    """A write beyond ``size`` bytes fails half-way, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def main(kind: str, folder: Path) -> None:
    """Print what loads after each crash."""
    save_old, save_new, read = KINDS[kind]()
    old, clean = folder / "old", folder / "clean"
    save_old(old)
    save_new(clean)
    expected = {"old": read(old), "new": read(clean)}
    assert expected["old"] != expected["new"]
    names = sorted(path.name for path in clean.iterdir())

    def name_of(target: Path) -> str:
        try:
            found = read(target)
        except ArtifactError as error:
            return f"{type(error).__name__}: {error}"
        return next((name for name, value in expected.items() if value == found), "a mixture")

    def outcome(point: str, prepare: Callable[[], None]) -> tuple[int, list[Any]]:
        target = folder / "target"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(old, target)
        status = _in_a_fork(save_new, target, prepare)
        found = name_of(target)
        save_new(target)
        again = name_of(target)
        left = sorted(path.name for path in target.iterdir())
        return status, [point, status, found, again, [n for n in left if n not in names]]

    results = []
    for stop in range(1000):
        status, result = outcome(f"kill {stop}", _kill_at(stop))
        results.append(result)
        if status != -9:
            break
    results += [
        outcome(f"full {size}", _no_file_beyond(size))[1]
        for size in (0, 1, 100, 1000, 3000, 10_000)
    ]
    print(json.dumps(results))


def alternate(kind: str, folder: Path) -> None:
    """Save one and the other over ``folder``/target until killed; a line says that it is there."""
    saves = KINDS[kind]()[:2]
    saves[0](folder / "target")
    print("saved", flush=True)
    while True:
        for save in reversed(saves):
            save(folder / "target")


if __name__ == "__main__":
    {"crash": main, "alternate": alternate}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
