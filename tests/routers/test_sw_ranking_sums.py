"""``sw_ranking`` fitted in parts: the same as at once, in any order, in memory and on disk."""

from __future__ import annotations

import itertools
import os
import random
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from battle_factory import SyntheticBattles, make_battles
from fastroute.artifacts import load_artifact
from fastroute.errors import ArtifactError, InvalidInputError, RatingError
from fastroute.provenance import Provenance
from fastroute.routers import SimilarityWeightedRouter
from fastroute.routers.sw_ranking import BattleCounts, FarFieldSums, far_field, shards, sums
from fastroute.routers.sw_ranking.contents import OPTIONS
from fastroute.routers.sw_ranking.large_files import map_cached

DATA = make_battles(seed=3, count=2500, dimensions=24, models=9)
PAIR = {"strong_model": DATA.strong, "weak_model": DATA.weak}


def _part(which: Any, data: SyntheticBattles = DATA) -> tuple[Any, ...]:
    return (
        np.ascontiguousarray(data.embeddings[which]),
        *(np.array(c)[which].tolist() for c in (data.model_a, data.model_b, data.winner)),
    )


def _parts(cuts: list[int]) -> list[tuple[Any, ...]]:
    ends = [0, *sorted(cuts), len(DATA.embeddings)]
    return [_part(slice(a, b)) for a, b in itertools.pairwise(ends) if b > a]


def _same_counts(a: BattleCounts, b: BattleCounts) -> bool:
    return (
        a.models == b.models
        and np.array_equal(a.counts, b.counts)
        and np.array_equal(a.sample.hashes, b.sample.hashes)
        and np.array_equal(a.sample.rows, b.sample.rows)
    )


def _same_sums(a: FarFieldSums, b: FarFieldSums) -> bool:
    return set(a.sums) == set(b.sums) and all(np.array_equal(a.sums[n], b.sums[n]) for n in a.sums)


cut_points = st.lists(st.integers(1, len(DATA.embeddings) - 1), min_size=2, max_size=6, unique=True)


@settings(max_examples=15, deadline=None)
@given(cut_points, st.randoms(use_true_random=False), st.integers(10, 4000))
def test_counts_are_exact_in_any_order_and_grouping(
    cuts: list[int], order: random.Random, sampled: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "_SAMPLE", sampled)
        whole = BattleCounts().fit_partial(*_part(slice(None)))
        parts = [BattleCounts().fit_partial(*part) for part in _parts(cuts)]
        one_by_one = BattleCounts()
        for part in _parts(cuts):
            one_by_one.fit_partial(*part)
        order.shuffle(parts)
        left = parts[0]
        for part in parts[1:]:
            left = left.merge(part)
        right = parts[-1]
        for part in parts[-2::-1]:
            right = part.merge(right)
        for other in (one_by_one, left, right):
            assert _same_counts(whole, other)
        assert len(whole.sample.rows) == min(sampled, len(DATA.embeddings))
        assert len(left) == len(DATA.embeddings)


@settings(max_examples=8, deadline=None)
@given(cut_points, st.randoms(use_true_random=False))
def test_sums_are_exact_in_any_order_and_grouping(cuts: list[int], order: random.Random) -> None:
    plan = BattleCounts().fit_partial(*_part(slice(None))).plan(**PAIR, num_tiers=4)
    parts = [FarFieldSums(plan).fit_partial(*part) for part in _parts(cuts)]
    left = parts[0]
    for part in parts[1:]:
        left = left.merge(part)
    order.shuffle(parts)
    right = parts[-1]
    for part in parts[-2::-1]:
        right = part.merge(right)
    assert _same_sums(left, right)
    whole = FarFieldSums(plan).fit_partial(*_part(slice(None))).moments()
    moments = left.moments()
    assert np.array_equal(moments.cells[:, 0], whole.cells[:, 0])  # how many of each cell
    assert np.array_equal(moments.sizes, whole.sizes)
    for name in ("energies", "squares", "pulls", "places", "influences", "cells", "lines",
                 "linear", "corner"):  # fmt: skip
        # float32 products round otherwise in other blocks.
        np.testing.assert_allclose(
            getattr(moments, name), getattr(whole, name), rtol=1e-5, atol=1e-4
        )


def test_the_plan_has_the_ratings_and_tiers_of_a_fit() -> None:
    router = SimilarityWeightedRouter(**PAIR, num_tiers=4, mode="far_field")
    router.fit(*_part(slice(None)))
    counts = BattleCounts()
    for part in _parts([700, 1300]):
        counts = counts.merge(BattleCounts().fit_partial(*part))
    plan = counts.plan(**PAIR, num_tiers=4)
    assert dict(zip(plan.models, plan.elo, strict=True)) == router.model_ratings_
    tiers = {m: int(t) for m, t in zip(plan.models, plan.tiers, strict=True)}
    assert tiers == router.model_tiers_
    fitted = router._state()
    assert np.array_equal(plan.start, fitted.start)
    assert fitted.far is not None
    wanted = fitted.far.moments
    assert np.array_equal(plan.gradient, wanted.gradient)
    found = FarFieldSums(plan).fit_partial(*_part(slice(None))).moments()
    for name in ("axes", "seeds", "sizes", "cells", "linear", "form"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name)), name


def test_no_sum_overflows_for_a_billion_battles() -> None:
    plan = BattleCounts().fit_partial(*_part(slice(None))).plan(**PAIR, num_tiers=4)
    found = FarFieldSums(plan).fit_partial(*_part(slice(None)))
    largest = max(int(np.abs(value).max()) for value in found.sums.values())
    assert largest / len(DATA.embeddings) * 1e9 < 2**63 / 4


def test_what_does_not_fit_is_refused() -> None:
    counts = BattleCounts().fit_partial(*_part(slice(0, 1500)))
    X, a, b, w = _part(slice(1500, 1600))
    with pytest.raises(InvalidInputError, match="have 7 dimensions where those before have 24"):
        counts.fit_partial(np.ascontiguousarray(X[:, :7]), a, b, w)
    with pytest.raises(InvalidInputError, match="winner"):
        counts.fit_partial(X, a, b, ["nobody"] * 100)
    with pytest.raises(InvalidInputError, match="strong_model is 'x'"):
        counts.plan(strong_model="x", weak_model=DATA.weak, num_tiers=4)
    with pytest.raises(InvalidInputError, match="more than the 9 models"):
        counts.plan(**PAIR)
    with pytest.raises(InvalidInputError, match="no battles in these sums"):
        FarFieldSums(counts.plan(**PAIR, num_tiers=4)).moments()
    with pytest.raises(InvalidInputError, match="was in no battle at fit"):
        FarFieldSums(counts.plan(**PAIR, num_tiers=4)).fit_partial(X, ["new"] * 100, b, w)
    with pytest.raises(RatingError, match="champion only won"):
        counts.merge(BattleCounts().fit_partial(X, ["champion"] * 100, b, ["model_a"] * 100)).plan(
            **PAIR, num_tiers=4
        )


@pytest.fixture(scope="module")
def large() -> SyntheticBattles:
    """Enough for inverted lists."""
    return make_battles(seed=8, count=9000, dimensions=24, models=9)


def _on_disk(large: SyntheticBattles, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    ends = [0, 4096, 4196, 9000]
    written = []
    for i, (a, b) in enumerate(itertools.pairwise(ends)):
        path = folder / f"shard-{i}"
        middle = (a + b) // 2
        blocks = [_part(slice(a, middle), large), _part(slice(middle, b), large)]
        assert shards.write_shard(path, blocks) == b - a
        written.append(shards.Shard(path))
    plan = shards.count_shards(written, folder).plan(**PAIR, num_tiers=4)
    shards.train_shard_index(written, plan, folder)
    for shard, first in zip(written, ends, strict=False):
        shards.fit_shard(shard, plan, first, folder)
    template = SimilarityWeightedRouter(**PAIR, num_tiers=4, storage="int8", mode="far_field")
    output = folder / "router"
    shards.assemble(
        output, written, plan, folder, embedder=None, provenance=Provenance(),
        options={name: getattr(template, name) for name in OPTIONS},
    )  # fmt: skip
    return output


def test_shards_on_disk_make_the_router_that_memory_makes(
    large: SyntheticBattles, tmp_path: Path
) -> None:
    output = _on_disk(large, tmp_path)
    loaded = SimilarityWeightedRouter.load(output, verify=True)
    fitted = SimilarityWeightedRouter(**PAIR, num_tiers=4, storage="int8", mode="far_field")
    fitted.fit(*_part(slice(None), large))
    assert loaded.model_ratings_ == fitted.model_ratings_
    ours, theirs = loaded._state(), fitted._state()
    assert ours.order is not None
    assert ours.vectors.scales is not None
    assert theirs.vectors.scales is not None
    for name in ("a", "b", "outcome"):
        assert np.array_equal(getattr(ours.table, name), getattr(theirs.table, name)[ours.order])
    assert np.array_equal(ours.vectors.rows, theirs.vectors.rows[ours.order])
    assert np.array_equal(ours.vectors.scales, theirs.vectors.scales[ours.order])
    assert ours.far is not None
    assert theirs.far is not None
    assert np.array_equal(ours.far.clusters, theirs.far.clusters[ours.order])
    assert np.array_equal(ours.far.moments.cells[:, 0], theirs.far.moments.cells[:, 0])
    exact = SimilarityWeightedRouter(**PAIR, num_tiers=4, storage="int8", mode="exact")
    exact.fit(*_part(slice(None), large))
    X = np.ascontiguousarray(large.prompts)
    wanted = exact.win_rates_from_embeddings(X)
    errors = [np.abs(r.win_rates_from_embeddings(X) - wanted).max() for r in (fitted, loaded)]
    assert errors[1] <= max(2 * errors[0], 1e-3)
    # The index is in two files, and not in memory.
    names = {path.name.split("-")[0] for path in output.iterdir()}
    assert {"index", "lists", "rows"} <= names
    for x in X[:5]:
        assert loaded.win_rate_from_embedding(x) == loaded.win_rates_from_embeddings(x[None])[0]
        nearest = loaded.explain_from_embedding(x, 3).nearest[0]
        unit = x / np.linalg.norm(x)
        assert theirs.vectors.take(np.array([nearest.battle]))[0] @ unit == pytest.approx(
            nearest.similarity, abs=1e-6
        )


def test_battles_lie_by_the_lists_of_the_index(
    large: SyntheticBattles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = _on_disk(large, tmp_path)
    index: Any = faiss.read_index(
        str(next(output.glob("index-*.faiss"))), faiss.IO_FLAG_SKIP_IVF_DATA
    )
    rows = np.load(next(output.glob("rows-*.npy"))) * np.load(next(output.glob("scales-*.npy")))[
        :, None
    ]  # fmt: skip
    axes = load_artifact(output, kind="sw_ranking").arrays["moments.axes"][: index.d]
    _, lists = index.quantizer.search(np.ascontiguousarray(rows @ axes.T, np.float32), 1)
    assert (np.diff(lists[:, 0]) >= 0).mean() > 0.999  # but for ties and rounding
    assert len(np.unique(lists)) > 100
    # However few are merged at a time, the files are the same; their names have their hashes.
    monkeypatch.setattr(shards, "_MERGED_AT_ONCE", 1000)
    again = _on_disk(large, tmp_path / "again")
    assert {path.name for path in again.iterdir()} == {path.name for path in output.iterdir()}


def _mapped_kib(path: Path) -> tuple[int, int]:
    """The size and the resident part of this process's mapping of a file."""
    after = Path("/proc/self/smaps").read_text().partition(str(path))[2].split()
    return int(after[after.index("Size:") + 1]), int(after[after.index("Rss:") + 1])


def _read_from_disk() -> int:
    words = Path("/proc/self/io").read_text().split()
    return int(words[words.index("read_bytes:") + 1])


@pytest.mark.skipif(sys.platform != "linux", reason="what is mapped is read from /proc")
def test_loading_maps_what_is_in_memory(large: SyntheticBattles, tmp_path: Path) -> None:
    output = _on_disk(large, tmp_path)
    router = SimilarityWeightedRouter.load(output)
    for pattern in ("rows-*.npy", "lists-*.ivfdata"):
        size, resident = _mapped_kib(next(output.glob(pattern)))
        assert resident == size, pattern
    assert router.mode_ == "far_field"


@pytest.mark.skipif(sys.platform != "linux", reason="what is mapped is read from /proc")
def test_mapping_reads_nothing_from_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "file.npy"
    np.save(path, np.ones(1 << 25, np.int8))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        kept = os.pread(file.fileno(), 1 << 20, 1 << 24)
    mapped = np.load(path, mmap_mode="r")
    before = _read_from_disk()
    map_cached(path, mapped)
    assert _read_from_disk() == before
    _, resident = _mapped_kib(path)
    assert len(kept) // 1024 <= resident
    assert int(mapped[::4096].sum()) == len(mapped) // 4096


def test_a_router_on_disk_refuses_what_would_change_its_files(
    large: SyntheticBattles, tmp_path: Path
) -> None:
    output = _on_disk(large, tmp_path)
    router = SimilarityWeightedRouter.load(output)
    with pytest.raises(InvalidInputError, match=r"on disk, in .*lists-.*; train with all"):
        router.add_battles(*_part(slice(0, 5), large))
    with pytest.raises(InvalidInputError, match="copy that folder"):
        router.save(tmp_path / "other")
    lists = next(output.glob("lists-*.ivfdata"))
    content = bytearray(lists.read_bytes())
    content[0] ^= 1
    lists.write_bytes(content)
    with pytest.raises(ArtifactError, match="was altered"):
        SimilarityWeightedRouter.load(output)
    lists.unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        SimilarityWeightedRouter.load(output)


def test_nearest_is_the_cluster_of_each(large: SyntheticBattles) -> None:
    points = large.embeddings[:100]
    found = far_field.nearest(points, points[:7])
    wanted = np.square(points[:, None] - points[None, :7]).sum(axis=2).argmin(axis=1)
    assert np.array_equal(found, wanted)
