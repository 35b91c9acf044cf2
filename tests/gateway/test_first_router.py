"""The tutorial docs/first-router.md: its configuration, provider, users, judge and learning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from cli_runner import fastroute, wait_for
from fakes import gateway as gateways

ROOT = Path(__file__).parents[2]
USERS = [sys.executable, str(ROOT / "bench/loop_users.py")]


def test_the_tutorial(tmp_path: Path) -> None:
    page = (ROOT / "docs/first-router.md").read_text("utf-8")
    config = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0].replace(
        "share = 0.3", "share = 1.0"
    )
    provider = subprocess.Popen(
        [*USERS, "provider", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert provider.stdout is not None
        address = provider.stdout.readline().split()[-1]
        config = config.replace("http://127.0.0.1:8000/v1", address)
        url = f"sqlite:///{tmp_path}/journal.db"
        with gateways.start("--config", gateways.write_config(tmp_path, config)) as gateway:
            subprocess.run(
                [*USERS, "users", "--requests", "20", "--graded", "1",
                 "--url", f"http://127.0.0.1:{gateway.port}"],
                check=True, timeout=120,
            )  # fmt: skip

            def have_arrived() -> bool:
                rows = fastroute("journal", "stats", url, "--json").json["rows"]
                return bool(rows["requests"] == rows["feedback"] == 20 and rows["shadows"])

            wait_for(have_arrived)
        judged = fastroute(
            "journal", "judge", url, "--judge-model", "judge", "--judge-base-url", address,
            "--judge-price", "0.1", "0.4", "--daily-usd", "1", "--yes",
        )  # fmt: skip
        assert judged.status == 0, judged
        assert re.match("[1-9][0-9]* pairs judged: ", judged.out)
        learnt = fastroute("learn", "--journal", url, "--output", tmp_path / "router-2")
        assert learnt.status == 2  # so few pairs prove nothing
        assert "distinct prompts have grades of" in learnt.err
    finally:
        provider.terminate()
        provider.communicate(timeout=20)
