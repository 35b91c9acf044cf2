"""Unit vectors: how they are stored, and the FAISS index that finds those near a prompt.

FAISS builds, trains, searches and stores; where it keeps whole vectors, the kernels read them
there, without a copy. The view of that memory does not keep the index alive, and ``add`` moves
it, so index and view live together in one object and the view never leaves the package.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from fastroute._arrays import check_array, check_finite, check_length, check_no_zero_rows
from fastroute._native import RowsArray
from fastroute.errors import ArtifactError, InvalidInputError, InvalidTypeError
from fastroute.types import Float32Array

Storage = Literal["float32", "float16", "int8"]
STORAGES: tuple[Storage, ...] = get_args(Storage)

_ROWS_PER_BLOCK = 16384  # what is normalised at a time: a copy of this many rows, no more

_MOST_LINKS = 1024  # of a vector in HNSW; FAISS takes memory for all of them at once
_MOST_EFFORT = 2**31 - 1  # FAISS reads nprobe and efSearch into integers, unchecked

# What index_factory builds and can't serve here: (pattern, why).
_UNFIT = [
    (r"IDMap", "an IDMap takes vectors with numbers of the caller's, and here they have their own"),
    (r"(^|,)L2norm", "FAISS can't copy an L2norm, and the vectors have length one already"),
    (r"(^|,)NSG", "FAISS can't add vectors to an NSG, so add_battles would fail"),
]


def _lists(factory: str) -> int | None:
    """The number of inverted lists that a factory string asks for, if it does."""
    found = re.search(r"(?:^|,)IVF(\d+)([kM]?)", factory)
    if found is None:
        return None
    return int(found[1]) * {"": 1, "k": 1024, "M": 1024 * 1024}[found[2]]


def _reason(error: Exception) -> str:
    """What FAISS says, without the C++ function and the line that say it."""
    text = " ".join(str(error).split())
    text = re.sub(r"^.* at \S+:\d+: ", "", text)
    said = re.sub(r"^Error: '.*' failed:? ?", "", text)
    return said or text.removeprefix("Error: ") or type(error).__name__


def unit_blocks(
    embeddings: Float32Array, dimensions: int, name: str = "embeddings"
) -> Iterator[tuple[int, Float32Array]]:
    """(first, rows) of ``embeddings``, float32[n, d], scaled to length one, a block at a time.

    Raises InvalidInputError, before the first block, for a wrong dtype, layout or dimension, NaN,
    infinity and zero rows.
    """
    check_array(name, embeddings, np.float32, 2)
    check_length(name, embeddings, dimensions, "the index")
    check_finite(name, embeddings)
    check_no_zero_rows(name, embeddings)
    for begin in range(0, len(embeddings), _ROWS_PER_BLOCK):
        block = embeddings[begin : begin + _ROWS_PER_BLOCK].astype(np.float64)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        yield begin, block.astype(np.float32)


@dataclass(frozen=True)
class UnitRows:
    """Unit vectors as float32, float16, or int8 with a factor a row.

    Attributes:
        rows: [n, d], C-contiguous.
        scales: float32[n] where rows are int8: vector i is scales[i] * rows[i].
        owner: whatever owns the memory of ``rows``, if it isn't ``rows``.
    """

    rows: RowsArray
    scales: Float32Array | None = None
    owner: object = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def storage(self) -> Storage:
        """The name of the rows' dtype."""
        return cast(Storage, self.rows.dtype.name)

    @classmethod
    def store(cls, embeddings: Float32Array, storage: Storage = "float32") -> UnitRows:
        """Scale rows, float32[n, d], to length one and store them; errors as ``unit_blocks``."""
        check_array("embeddings", embeddings, np.float32, 2)
        count, d = embeddings.shape
        rows = np.empty((count, d), dtype=storage)
        scales = np.empty(count, np.float32) if storage == "int8" else None
        for first, block in unit_blocks(embeddings, d):
            part = slice(first, first + len(block))
            if scales is not None:
                scales[part] = np.abs(block).max(axis=1) / np.float32(127.0)
                block = np.rint(block / scales[part, None])
            rows[part] = block
        return cls(rows, scales)

    def blocks(self) -> Iterator[tuple[int, Float32Array]]:
        """(first, float32[n, d]) for all rows in order."""
        for first in range(0, len(self), _ROWS_PER_BLOCK):
            block = self.rows[first : first + _ROWS_PER_BLOCK].astype(np.float32, copy=False)
            if self.scales is not None:
                block = block * self.scales[first : first + len(block), None]
            yield first, block

    def take(self, which: npt.NDArray[np.integer[Any]]) -> Float32Array:
        """The vectors with these numbers, float32[k, d]."""
        picked: Float32Array = self.rows[which].astype(np.float32, copy=False)
        return picked if self.scales is None else picked * self.scales[which, None]

    def selected(self, which: npt.NDArray[np.integer[Any]]) -> UnitRows:
        """A copy of the vectors with these numbers, stored as here."""
        return UnitRows(self.rows[which], None if self.scales is None else self.scales[which])

    def joined(self, other: UnitRows) -> UnitRows:
        """These rows and then the ``other``'s, of the same storage, in memory of their own."""
        scales = None
        if self.scales is not None and other.scales is not None:
            scales = np.concatenate([self.scales, other.scales])
        rows: npt.NDArray[Any] = np.concatenate([self.rows, other.rows])
        return UnitRows(rows, scales)


class NeighborIndex:
    """Vectors in a FAISS index, by inner product.

    Args:
        dimensions: of the vectors.
        factory: a string for ``faiss.index_factory``, such as "Flat", "HNSW32", "IVF1024,Flat"
            or "HNSW32_SQ8".
        parameters: how hard to search, as ``faiss.ParameterSpace`` reads it, such as
            "nprobe=16" or "efSearch=64"; by default nprobe=8 and efSearch=64.

    A search is one query on the calling thread; building uses FAISS's own threads.
    """

    def __init__(
        self, dimensions: int, factory: str = "Flat", parameters: str | None = None
    ) -> None:
        import faiss

        self.check_factory(factory)
        self.check_parameters(parameters)
        try:
            index = faiss.index_factory(dimensions, factory, faiss.METRIC_INNER_PRODUCT)
        except (MemoryError, RuntimeError) as error:
            raise InvalidInputError(
                f"index must be a string that faiss.index_factory reads for {dimensions} "
                f"dimensions, such as 'HNSW32' or 'IVF1024,Flat', got {factory!r} "
                f"({_reason(error)})"
            ) from None
        self._own(faiss, index)
        self._tune(parameters)

    @staticmethod
    def check_factory(factory: str) -> None:
        """Check the type, and refuse what FAISS would build and then fail with.

        The rest of what the string says is checked when the dimension is known.
        """
        if not isinstance(factory, str):
            raise InvalidTypeError(
                f"index must be a str for faiss.index_factory, such as 'HNSW32', got {factory!r}"
            )
        for links in re.findall(r"HNSW(\d+)", factory):
            if not 2 <= int(links) <= _MOST_LINKS:  # with fewer than 2, FAISS ends the process
                raise InvalidInputError(
                    f"index must have from 2 to {_MOST_LINKS} links a vector after HNSW, such as "
                    f"'HNSW32', got {factory!r}"
                )
        if _lists(factory) == 0:
            raise InvalidInputError(
                f"index must have at least one list after IVF, such as 'IVF1024,Flat', got "
                f"{factory!r}"
            )
        for pattern, reason in _UNFIT:
            if re.search(pattern, factory):
                raise InvalidInputError(
                    f"index can't be {factory!r}: {reason}; use another, such as 'Flat', 'HNSW32' "
                    "or 'IVF1024,Flat'"
                )

    @staticmethod
    def check_lists(factory: str, count: int) -> None:
        """Check that ``count`` vectors fill the lists, before FAISS takes memory for them."""
        lists = _lists(factory)
        if lists is not None and lists > count:
            raise InvalidInputError(f"index has {lists} lists for {count} battles; use fewer")

    @staticmethod
    def check_parameters(parameters: str | None) -> None:
        """Check the type and the values; whether they suit the index shows when there is one."""
        if parameters is None:
            return
        if not isinstance(parameters, str):
            raise InvalidTypeError(
                "index_parameters must be a str for faiss.ParameterSpace, such as 'nprobe=16', or "
                f"None, got {parameters!r}"
            )
        for part in parameters.split(","):
            name, _, text = part.partition("=")
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not name.strip() or not math.isfinite(value):
                raise InvalidInputError(
                    "index_parameters must be names and numbers, such as 'nprobe=16' or "
                    f"'efSearch=64', or None, got {parameters!r}"
                )
            whole = name.strip().endswith(("nprobe", "efSearch"))
            if whole and not (1 <= value <= _MOST_EFFORT and value.is_integer()):
                raise InvalidInputError(
                    f"index_parameters must have {name.strip()} from 1 to {_MOST_EFFORT}, a whole "
                    f"number, got {parameters!r}"
                )

    def _own(self, faiss: Any, index: Any) -> None:
        self._faiss: Any = faiss
        self._index: Any = index
        self._mapped = False
        #: The file of the lists, where that is another one.
        self.lists: Path | None = None
        self._parameters: str | None = None
        self._local = threading.local()
        self.dimensions = int(index.d)

    def _tune(self, parameters: str | None) -> None:
        self._parameters = parameters
        space = self._faiss.ParameterSpace()
        if parameters is not None:
            try:
                space.set_index_parameters(self._index, parameters)
            except RuntimeError as error:
                raise InvalidInputError(
                    f"index_parameters must suit the index, such as 'nprobe=16' for IVF or "
                    f"'efSearch=64' for HNSW, got {parameters!r} ({_reason(error)})"
                ) from None
            return
        inner = self._searched()
        if isinstance(inner, self._faiss.IndexIVF):
            space.set_index_parameters(inner, f"nprobe={min(8, inner.nlist)}")
        elif isinstance(inner, self._faiss.IndexHNSW):
            space.set_index_parameters(inner, "efSearch=64")

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, embeddings: Float32Array, name: str = "embeddings") -> None:
        """Scale rows, float32[n, d], to length one and add them; ``embeddings`` is not changed.

        Raises InvalidInputError, before anything is added, for a wrong dtype, layout or
        dimension, NaN, infinity and zero rows.
        """
        for _, block in unit_blocks(embeddings, self.dimensions, name):
            self._index.add(block)

    def train(self, rows: Float32Array) -> None:
        """Learn from rows, float32[n, d], if the index needs it."""
        if not self._index.is_trained:
            inner = self._searched()
            if isinstance(inner, self._faiss.IndexIVF):
                if inner.nlist > len(rows):
                    raise InvalidInputError(
                        f"index has {inner.nlist} lists for {len(rows)} battles; use fewer"
                    )
                # Lists need not be perfect: what they miss costs the near field a little.
                inner.cp.max_points_per_centroid = 40
                inner.cp.min_points_per_centroid = 1
                inner.cp.niter = 6
            try:
                with self._few_accepted():
                    self._index.train(rows)
            except RuntimeError as error:
                raise InvalidInputError(
                    f"index can't be trained on {len(rows)} battles ({_reason(error)}); use a "
                    "simpler one"
                ) from None

    def train_and_add(self, rows: Float32Array) -> None:
        """Add rows, float32[n, d], as they are; trains the index on them first if it needs it."""
        self.train(rows)
        try:
            self._index.add(rows)
            if len(rows):  # here, where it can be corrected, not at every prompt
                self.search(np.ascontiguousarray(rows[0]), 1)
        except RuntimeError as error:
            raise InvalidInputError(
                f"index can't hold {len(rows)} battles ({_reason(error)}); use a simpler one"
            ) from None

    @contextlib.contextmanager
    def _few_accepted(self) -> Iterator[None]:
        """While the index is trained: codebooks are learned from as many vectors as there are,
        without a line on stderr.

        FAISS asks for 39 a centroid and goes on with fewer; too few to learn from is an error.
        """
        faiss, lent = self._faiss, []
        for index in self._parts(faiss.downcast_index(self._index)):
            quantizers = [getattr(index, name) for name in ("pq", "rq") if hasattr(index, name)]
            if hasattr(index, "prq"):
                parts = map(index.prq.subquantizer, range(index.prq.nsplits))
                quantizers += map(faiss.downcast_AdditiveQuantizer, parts)
            quantizers += [index] if isinstance(index, faiss.IndexIVF) else []
            quantizers += [index.q1] if hasattr(index, "q1") else []
            for quantizer in quantizers:
                quantizer.cp.min_points_per_centroid = 1
            if hasattr(index, "do_polysemous_training") and "ht=" not in (self._parameters or ""):
                # It renumbers codes, a second a codebook, for a search that only ht= asks for.
                index.do_polysemous_training = False
            if isinstance(index, faiss.IndexPreTransform):
                for i in range(index.chain.size()):
                    transform = faiss.downcast_VectorTransform(index.chain.at(i))
                    if isinstance(transform, faiss.OPQMatrix):
                        # It learns with a quantizer of its own unless it is lent one.
                        pq = faiss.ProductQuantizer(transform.d_out, transform.M, 8)
                        pq.cp.min_points_per_centroid = 1
                        transform.pq = pq
                        lent.append((transform, pq))
        try:
            yield
        finally:
            for transform, _ in lent:
                transform.pq = None

    def _searched(self) -> Any:
        """The index that is searched, below what transforms vectors or refines what it finds."""
        faiss = self._faiss
        index = faiss.downcast_index(self._index)
        while isinstance(index, (faiss.IndexPreTransform, faiss.IndexRefine)):
            within = index.index if hasattr(index, "index") else index.base_index
            index = faiss.downcast_index(within)
        return index

    def _parts(self, index: Any) -> Iterator[Any]:
        """``index``, and the indexes in it: of a transform, of a graph, of one that refines what
        another finds, of the lists."""
        yield index
        for name in ("index", "storage", "base_index", "refine_index", "quantizer"):
            holder = getattr(index, "q1", index) if name == "quantizer" else index
            inner = getattr(holder, name, None)
            if inner is not None:
                yield from self._parts(self._faiss.downcast_index(inner))

    def search(self, x: Float32Array, count: int) -> npt.NDArray[np.int64]:
        """Numbers of ``count`` vectors near ``x``, float32[d], int64; -1 where there are none."""
        return self.search_scored(x, count)[0]

    def search_scored(
        self, x: Float32Array, count: int, vectors: int = 0
    ) -> tuple[npt.NDArray[np.int64], Float32Array]:
        """``search``, and the similarities, float32[count], both the calling thread's until it
        searches again. With ``vectors`` an inverted file reads about so many."""
        found = getattr(self._local, "found", None)
        if found is None or len(found[0]) != count:
            near, similarities = np.empty(count, np.int64), np.empty(count, np.float32)
            pointers = self._faiss.swig_ptr(similarities), self._faiss.swig_ptr(near)
            found = self._local.found = near, similarities, pointers
        near, similarities, pointers = found
        faiss = self._faiss
        wide = self._wide(vectors) if vectors else ()
        # One query is too little to share: waking FAISS's threads takes longer than the search.
        threads = faiss.omp_get_max_threads()
        if threads == 1:
            self._index.search_c(1, faiss.swig_ptr(x), count, *pointers, *wide[:1])
        else:
            faiss.omp_set_num_threads(1)  # of this thread only
            try:
                self._index.search_c(1, faiss.swig_ptr(x), count, *pointers, *wide[:1])
            finally:
                faiss.omp_set_num_threads(threads)
        return near, similarities

    def _wide(self, vectors: int) -> tuple[Any, ...]:
        """How FAISS reads so many vectors; all of it must live as long as the search."""
        faiss, index = self._faiss, self._faiss.downcast_index(self._index)
        if not isinstance(index, faiss.IndexIVF):
            return ()
        lists = min(-(-vectors * index.nlist // len(self)), index.nlist)
        coarse = None
        if isinstance(faiss.downcast_index(index.quantizer), faiss.IndexHNSW):
            coarse = faiss.SearchParametersHNSW(efSearch=lists)
        return faiss.SearchParametersIVF(nprobe=lists, quantizer_params=coarse), coarse

    def search_rows(
        self, X: Float32Array, count: int, num_threads: int
    ) -> tuple[npt.NDArray[np.int64], Float32Array]:
        """``search_scored`` for each row of ``X``, float32[n, d], on so many of FAISS's threads."""
        faiss = self._faiss
        X = np.ascontiguousarray(X)
        near = np.empty((len(X), count), np.int64)
        similarities = np.empty((len(X), count), np.float32)
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(num_threads)  # of this thread only
        try:
            self._index.search_c(
                len(X), faiss.swig_ptr(X), count, faiss.swig_ptr(similarities), faiss.swig_ptr(near)
            )
        finally:
            faiss.omp_set_num_threads(threads)
        return near, similarities

    def rows(self) -> Float32Array:
        """The stored vectors, float32[n, d], in FAISS's memory: valid until the next ``add``."""
        flat = self._flat()
        if flat is None:
            raise InvalidInputError("this index does not store whole vectors in order")
        count = len(self) * self.dimensions
        view = self._faiss.rev_swig_ptr(flat.get_xb(), count)
        rows: Float32Array = view.reshape(len(self), self.dimensions)
        return rows

    @property
    def lends_rows(self) -> bool:
        """Whether the index stores its vectors whole, as float32, in the order of ``add``.

        And where kernels can read them: in a mapped file they need not be aligned.
        """
        return self._flat() is not None and len(self) > 0 and self.rows().flags.aligned

    def mapped_lists(self) -> npt.NDArray[np.uint8]:
        """The bytes of the file ``lists``, as FAISS has mapped it."""
        held = self._faiss.downcast_InvertedLists(self._searched().invlists)
        return cast(npt.NDArray[np.uint8], self._faiss.rev_swig_ptr(held.ptr, held.totsize))

    def _flat(self) -> Any:
        inner = self._faiss.downcast_index(self._index)
        if isinstance(inner, self._faiss.IndexHNSWFlat):
            inner = self._faiss.downcast_index(inner.storage)
        return inner if isinstance(inner, self._faiss.IndexFlat) else None

    def extended(self, rows: Float32Array) -> NeighborIndex:
        """A copy with more vectors; this one stays as it is, for threads that search it."""
        if self.lists is not None:
            raise InvalidInputError(f"index is on disk, in {self.lists}; train with all battles")
        copy = NeighborIndex.__new__(NeighborIndex)
        try:
            if self._mapped:  # FAISS aborts when it is to add to vectors that it does not own
                written = self._faiss.serialize_index(self._index)
                copy._own(self._faiss, self._faiss.deserialize_index(written))
            else:
                copy._own(self._faiss, self._faiss.clone_index(self._index))
            copy._parameters = self._parameters  # the copy searches as hard as this one
            copy._index.add(rows)
        except RuntimeError as error:
            raise InvalidInputError(
                f"index can't take more battles ({_reason(error)}); fit with another index, or "
                "call fit with all battles"
            ) from None
        return copy

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a file."""
        self._faiss.write_index(self._index, os.fspath(path))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        parameters: str | None = None,
        lists: Path | None = None,
    ) -> NeighborIndex:
        """Read an index, leaving its vectors in the file where FAISS can: pages are shared.

        ``lists`` is the file of its inverted lists where they are not in ``path``. Raises
        ArtifactError for a file that FAISS can't read.
        """
        import faiss

        index = None
        flags: tuple[str, ...] = ("IO_FLAG_MMAP_IFC", "IO_FLAG_MMAP")
        if lists is not None:
            with contextlib.suppress(MemoryError, RuntimeError):
                index = faiss.read_index(os.fspath(path), faiss.IO_FLAG_SKIP_IVF_DATA)
                held: Any = faiss.extract_index_ivf(index).invlists
                held = faiss.downcast_InvertedLists(held)
                held.filename, held.read_only = os.fspath(lists), True
                held.prefetch_nthread = 0  # or each search would start threads to read ahead
                held.do_mmap()
            flags = ()
        # The first maps flat and inverted lists; FAISS before 1.11 has only the second. What an
        # index can't be read with, it refuses.
        for flag in flags:
            if index is None and hasattr(faiss, flag):
                with contextlib.suppress(MemoryError, RuntimeError):
                    index = faiss.read_index(os.fspath(path), getattr(faiss, flag))
        if index is None:
            try:
                index = faiss.read_index(os.fspath(path))  # which says what is wrong
            except (MemoryError, RuntimeError) as error:
                raise ArtifactError(
                    f"{os.fspath(path)} can't be read as a FAISS index ({_reason(error)}): it was "
                    "altered, or written by a newer FAISS; download or export it again"
                ) from None
        loaded = cls.__new__(cls)
        loaded._own(faiss, index)
        loaded._mapped = True
        loaded.lists = lists
        if parameters is not None:  # without, it searches as hard as the index that was saved
            loaded._tune(parameters)
        return loaded
