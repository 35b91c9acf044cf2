"""What 10,000 requests a second and a billion battles take: arithmetic from measured inputs.

``python bench/scaling.py`` prints the tables of docs/scaling.md; each input is an option. With
``--measure`` it takes the inputs that do not need a quiet machine from this one at one size,
predicts a size four times as large from them, and measures that too. It needs redis-server.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import scaling_gateway

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

DAY_S = 86_400


@dataclass(frozen=True)
class Inputs:
    """What the arithmetic starts from; ``docs/benchmarks.md`` and ``--measure`` have the source."""

    requests_per_s: float = 10_000
    requests_per_s_of_a_core: float = 3_165  # serve_load.py, mf, one worker
    utilisation: float = 0.5  # above it, waits grow
    added_ms: float = 0.46
    process_mib: float = 91
    open_request_kib: float = 55
    request_bytes: float = 6_000  # a conversation of some turns
    answer_bytes: float = 3_000
    answer_s: float = 5.0  # until a provider has sent all of it
    turns_of_a_conversation: float = 5
    conversation_ttl_s: float = 3_600
    state_bytes_of_a_conversation: float = 216
    state_commands_of_a_request: float = 2
    state_command_us: float = 10  # of processor of the server
    valkey_network_bytes_of_a_request: float = 250
    vcpu_usd_per_hour: float = 0.05
    gib_usd_per_hour: float = 0.005
    prompts_per_s_of_a_core: float = 200_000  # score_figures.py, mf
    battles: float = 1e9
    dimensions: float = 384
    fit_us_of_a_battle: float = 60  # both rounds, one core
    query_us: float = 200  # sw_ranking at a million battles
    ram_gib_of_a_machine: float = 256


def main() -> int:
    options = _parse()
    given = {field.name: getattr(options, field.name) for field in fields(Inputs)}
    inputs = Inputs(**given)
    if options.measure:
        _measure()
        return 0
    _requests(inputs)
    _battles(inputs)
    _waits(inputs)
    return 0


def _table(title: str, rows: list[tuple[str, str]]) -> None:
    print(f"\n## {title}\n\n| what | amount |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


def _requests(i: Inputs) -> None:
    cores = math.ceil(i.requests_per_s / (i.requests_per_s_of_a_core * i.utilisation))
    streams = i.requests_per_s * i.answer_s
    conversations = i.requests_per_s / i.turns_of_a_conversation * i.conversation_ttl_s
    commands = i.requests_per_s * i.state_commands_of_a_request
    memory = (cores * i.process_mib + streams * i.open_request_kib / 1024) / 1024
    machine = cores * i.vcpu_usd_per_hour + memory * i.gib_usd_per_hour
    of_a_million = machine / (i.requests_per_s * 3600) * 1e6
    offline = i.vcpu_usd_per_hour / (i.prompts_per_s_of_a_core * 3600) * 1e6
    held = conversations * i.state_bytes_of_a_conversation / 2**30
    valkey = i.requests_per_s * i.valkey_network_bytes_of_a_request * 8 / 1e9
    busy = commands * i.state_command_us / 1e6
    network = i.requests_per_s * 2 * (i.request_bytes + i.answer_bytes) * 8 / 1e9
    _table(
        f"{i.requests_per_s:,.0f} requests a second",
        [
            (f"gateway processes, each on a core at {i.utilisation:.0%}", f"{cores}"),
            ("their memory, with open requests", f"{memory:.1f} GiB"),
            ("open requests to providers", f"{streams:,.0f}"),
            ("of one process", f"{streams / cores:,.0f} (default max_concurrency: 1,024)"),
            ("network, both sides, in and out", f"{network:.1f} Gbit/s"),
            ("Valkey commands a second", f"{commands:,.0f}, {busy:.0%} of a core"),
            ("conversations in Valkey, their memory", f"{conversations:,.0f}, {held:.1f} GiB"),
            ("network of Valkey", f"{valkey:.2f} Gbit/s"),
            ("dollars for a million decisions in the gateway", f"{of_a_million:.4f}"),
            ("the same by `fastroute score`", f"{offline:.6f}"),
        ],
    )  # fmt: skip


def router_bytes(battles: float, dimensions: float) -> float:
    """Bytes of the files of a far-field router with int8 storage: row, scale, cell, two models,
    outcome and cluster of each battle, and its code and number in the index."""
    axes = min(dimensions, 128)
    return battles * (dimensions + 4 + 2 + 4 + 4 + 1 + 2 + axes + 8)


def _battles(i: Inputs) -> None:
    lists = 2 ** round(math.log2(4 * math.sqrt(i.battles)))
    opened = max(round(3200 * lists / i.battles), 2)
    read = opened * i.battles / lists
    size = router_bytes(i.battles, i.dimensions) + 8 * i.battles  # fitted in parts: the order
    axes = min(i.dimensions, 128)
    learned = 20 * lists * axes * 4
    hours = i.battles * i.fit_us_of_a_battle / 1e6 / 3600
    query = i.query_us * max(1.0, 0.65 * read / 3200 + 0.35)  # 65 % of it is the search
    _table(
        f"{i.battles:,.0f} battles x {i.dimensions:.0f}",
        [
            ("files of the router", f"{size / 2**30:,.0f} GiB"),
            ("of it, the index, which queries read", f"{i.battles * (axes + 8) / 2**30:,.0f} GiB"),
            ("machines of which the page caches hold all",
             f"{math.ceil(size / 2**30 / i.ram_gib_of_a_machine)}"),
            ("lists, opened by a query", f"{lists:,}, {opened}"),
            ("vectors that a query reads", f"{read:,.0f} (3,200 up to {_even():,.0f} battles)"),
            ("memory of the rows that the lists are learned from", f"{learned / 2**30:.1f} GiB"),
            ("both rounds of the fit, core hours", f"{hours:,.1f}"),
            ("temporary memory of the checks at load", f"{i.battles * 24 / 2**30:,.0f} GiB"),
            ("a query, page cache warm", f"{query:,.0f} us"),
        ],
    )  # fmt: skip


def _even() -> float:
    """The number of battles up to which two lists hold no more than a search should read."""
    return (3200 * 4 / 2) ** 2


def _waits(i: Inputs) -> None:
    """A process is an M/D/1 queue: the system gives it connections at random. Simulated by
    Lindley's recursion, and beside it the mean by the formula of Pollaczek and Khinchine."""
    import numpy as np

    rng = np.random.default_rng(0)
    service = 1.0 / i.requests_per_s_of_a_core
    print("\n## Waits in a gateway process, by how busy it is\n")
    print("| busy | processes | mean wait, simulated | by formula | p99 |\n|---|---|---|---|---|")
    for busy in (0.3, 0.5, 0.7, 0.9):
        gaps = rng.exponential(service / busy, 400_000)
        waits = np.empty(len(gaps))
        wait = 0.0
        for n, gap in enumerate(gaps.tolist()):
            wait = max(0.0, wait + service - gap)
            waits[n] = wait
        formula = busy * service / (2 * (1 - busy))
        count = math.ceil(i.requests_per_s / (i.requests_per_s_of_a_core * busy))
        print(f"| {busy:.0%} | {count} | {1e3 * waits.mean():.2f} ms | {1e3 * formula:.2f} ms | "
              f"{1e3 * np.quantile(waits, 0.99):.2f} ms |")  # fmt: skip


def _measure() -> None:
    print(
        "| figure | at one size | predicted for four times as much | measured |\n|---|---|---|---|"
    )
    sizes = [(20_000, 64), (80_000, 64)]
    small, large = (_measured_bytes(*size) for size in sizes)
    said = small - router_bytes(*sizes[0]) + router_bytes(*sizes[1])
    print(f"| files of a router, {sizes[0][0]:,} battles x 64 | {small / 2**20:.2f} MiB | "
          f"{said / 2**20:.2f} MiB | {large / 2**20:.2f} MiB |", flush=True)  # fmt: skip
    for title, measured in (
        ("2,000 conversations of 5 turns", lambda n: asyncio.run(_state(2_000 * n))),
        ("250 open requests", lambda n: asyncio.run(scaling_gateway.measure(250 * n, 6000, 3000))),
        ("50,000 prompts", lambda n: _prompts(50_000 * n)),
        ("50,000 battles x 384 in parts", lambda n: _fit(50_000 * n)),
    ):
        few, many = measured(1), measured(4)
        for name, value in few.items():
            times = 4 if name.startswith("KiB of Valkey") else 1
            print(f"| {name}, {title} | {value:,.2f} | {times * value:,.2f} | {many[name]:,.2f} |",
                  flush=True)  # fmt: skip


def _prompts(count: int) -> dict[str, float]:
    from data import make_prompts
    from fastroute.routers import create_router

    router, prompts = create_router("mf"), make_prompts(10_000) * (count // 10_000)
    router.win_rates(prompts[:1000])
    began = time.process_time()
    for first in range(0, count, 4096):
        router.win_rates(prompts[first : first + 4096])
    return {"us of processor of a prompt": 1e6 * (time.process_time() - began) / count}


def _fit(battles: int) -> dict[str, float]:
    import numpy as np

    import sw_ranking_parts
    from data import Size, make_shards

    made = list(make_shards(Size(battles, 384), battles // 50_000))
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        sw_ranking_parts.fit_in_parts(made, 0, Path(folder), np)
        return {"us of processor of a battle": 1e6 * (time.process_time() - began) / battles}


def _measured_bytes(battles: int, dimensions: int) -> float:
    from data import Size, make_battles
    from fastroute.routers import SimilarityWeightedRouter

    made = make_battles(Size(battles, dimensions))
    router = SimilarityWeightedRouter(
        strong_model=made.strong_model, weak_model=made.weak_model, storage="int8",
        mode="far_field",
    )  # fmt: skip
    router.fit(made.embeddings, made.model_a, made.model_b, made.winner)
    with tempfile.TemporaryDirectory() as folder:
        router.save(folder)
        return sum(file.stat().st_size for file in Path(folder).iterdir())


async def _state(conversations: int) -> dict[str, float]:
    """Five turns of each conversation, by the store that the gateway uses: read, write, wait."""
    from fakes import redis as servers
    from fastroute.state import ValkeySettings, ValkeyStore

    with tempfile.TemporaryDirectory() as folder, servers.start(Path(folder)) as server:
        store = ValkeyStore(ValkeySettings(url=server.url))
        store.start()
        while not store.is_up:
            await asyncio.sleep(0.01)
        before = _facts(server)

        async def turn(number: int) -> None:
            key = f"session:{number:032x}"
            await store.get(key, wait_s=1.0)
            store.put(key, b'{"model": "gpt-4.1-nano", "score": 0.5}', 3600.0)
            await store.written(key)

        for _ in range(5):
            for first in range(0, conversations, 64):
                await asyncio.gather(*map(turn, range(first, min(first + 64, conversations))))
        await asyncio.sleep(0.2)
        after = _facts(server)
        await store.aclose()
    requests = 5 * conversations
    return {
        "Valkey commands of a request": (after["commands"] - before["commands"]) / requests,
        "bytes to and from Valkey of a request": (after["bytes"] - before["bytes"]) / requests,
        "us of processor of Valkey of a command": 1e6
        * (after["processor"] - before["processor"])
        / (after["commands"] - before["commands"]),
        "KiB of Valkey's memory": (after["memory"] - before["memory"]) / 1024,
    }


def _facts(server: Any) -> dict[str, float]:
    lines = dict(
        line.split(":", 1) for line in server.ask("INFO", "all").splitlines() if ":" in line
    )
    calls = [
        float(value.split("calls=")[1].split(",")[0])
        for name, value in lines.items()
        if name.startswith("cmdstat_") and "info" not in name
    ]
    network = float(lines["total_net_input_bytes"]) + float(lines["total_net_output_bytes"])
    processor = float(lines["used_cpu_user"]) + float(lines["used_cpu_sys"])
    return {
        "commands": sum(calls),
        "bytes": network,
        "memory": float(lines["used_memory"]),
        "processor": processor,
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--measure", action="store_true", help="measure at two sizes instead")
    for field in fields(Inputs):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=float, default=field.default, metavar="N"
        )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
