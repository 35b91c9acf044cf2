"""The command ``fastroute``: it parses, calls the Python API, and prints.

Exit status: 0 done, 1 a provider or the machine failed, 2 bad arguments or input (one line on
standard error), 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from fastroute.errors import DispatchError, FastRouteError, InvalidInputError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (try {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (by default the process's) and return its exit status."""
    parser = _make_parser(arguments)
    options = parser.parse_args(arguments)
    try:
        status = int(options.run(options))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has stopped; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except FastRouteError as error:
        print(f"fastroute: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if isinstance(error, DispatchError) else 2
    return status


def _make_parser(arguments: Sequence[str] | None) -> argparse.ArgumentParser:
    from fastroute import __version__

    parser = _Parser(
        prog="fastroute",
        description="Decide which language model should answer a prompt: the strong, expensive "
        "one or the weak, cheap one.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastroute {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)

    _configure_route(add("route", "Route prompts and print the decisions; nothing is sent."))
    _configure_info(add("info", "Print versions, SIMD level and the default router."))
    evaluate = add("evaluate", "Measure routers on benchmarks or on your own traffic.")
    calibrate = add("calibrate", "Find the threshold for a share of strong calls or a quality.")

    # Those two know their own arguments; they are asked only when one of them is called, because
    # `fastroute route` should start fast.
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in ("evaluate", "calibrate"):
        from fastroute.evaluation import command

        command.configure_evaluate(evaluate)
        evaluate.set_defaults(run=command.run_evaluate)
        command.configure_calibrate(calibrate)
        calibrate.set_defaults(run=command.run_calibrate)
    return parser


# route


def _configure_route(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prompts",
        nargs="+",
        metavar="PROMPT",
        help="a prompt to route; - reads prompts from standard input, a line each",
    )
    parser.add_argument("--router", default="mf", metavar="R", help="router (default: mf)")
    cut = parser.add_mutually_exclusive_group()
    cut.add_argument(
        "--threshold",
        metavar="T",
        help="win rate, 0 to 1, from which the strong model answers (default: 0.5)",
    )
    cut.add_argument(
        "--strong-share",
        metavar="P",
        help="choose the threshold that sends this share, 0 to 1, of prompts like the ones the "
        "router was calibrated on to the strong model",
    )
    parser.add_argument("--strong-model", default="strong", metavar="NAME", help="its name")
    parser.add_argument("--weak-model", default="weak", metavar="NAME", help="its name")
    parser.add_argument(
        "--checkpoint", metavar="FOLDER", help="mf: a fastroute artifact or RouteLLM checkpoint"
    )
    parser.add_argument(
        "--battles", metavar="FILE", help="sw_ranking: JSONL of prompt, model_a, model_b, winner"
    )
    parser.add_argument("--num-tiers", type=int, metavar="N", help="sw_ranking: rating tiers")
    parser.add_argument("--seed", type=int, metavar="N", help="random: seed")
    parser.add_argument("--json", action="store_true", help="print one JSON object a prompt")
    parser.set_defaults(run=_run_route)


def _run_route(options: argparse.Namespace) -> int:
    from fastroute.controller import Controller
    from fastroute.routers import create_router

    router = create_router(options.router, **_router_config(options))
    threshold = _threshold(options, router)
    controller = Controller(
        routers=[router], strong_model=options.strong_model, weak_model=options.weak_model
    )
    for prompt in _prompts(options.prompts):
        decision = controller.decide(prompt, router=router.name, threshold=threshold)
        if options.json:
            print(json.dumps(decision._asdict()), flush=True)
        else:
            sign = ">=" if decision.strong else "< "
            print(
                f"{decision.model}  win rate {decision.win_rate:.4f} {sign} threshold "
                f"{decision.threshold:.4f}  ({decision.router}, {decision.latency_us:.0f} us)",
                flush=True,
            )
    return 0


def _router_config(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the chosen router; one that belongs to another router is an error."""
    belongs = {
        "checkpoint": ("mf", "checkpoint_path"),
        "battles": ("sw_ranking", "battles"),
        "num_tiers": ("sw_ranking", "num_tiers"),
        "seed": ("random", "seed"),
    }
    config: dict[str, Any] = {}
    for option, (router, key) in belongs.items():
        value = getattr(options, option)
        if value is None:
            continue
        if options.router != router:
            raise InvalidInputError(
                f"--{option.replace('_', '-')} belongs to --router {router}, not {options.router}"
            )
        config[key] = value
    pair = (options.strong_model, options.weak_model)
    if options.router == "sw_ranking" or "checkpoint_path" in config:
        for key, value, default in zip(
            ("strong_model", "weak_model"), pair, ("strong", "weak"), strict=True
        ):
            if value != default:
                config[key] = value
    return config


def _threshold(options: argparse.Namespace, router: Any) -> float:
    from fastroute.policy import check_threshold, threshold_for_strong_share

    if options.strong_share is None:
        return check_threshold(_number("--threshold", options.threshold or "0.5"))
    share = _number("--strong-share", options.strong_share)
    if router.calibration is None:
        raise InvalidInputError(
            f"--strong-share: router {router.name!r} was never calibrated; give --threshold, or "
            "find one with fastroute calibrate --prompts FILE"
        )
    return threshold_for_strong_share(router.calibration, share)


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidInputError(f"{option} must be a number from 0 to 1, got {text!r}") from None


def _prompts(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word == "-":
            # A byte that is no UTF-8 must not lose the line that it is in.
            stream = open(  # noqa: SIM115 - closefd=False: standard input is not ours to close
                sys.stdin.fileno(), encoding="utf-8", errors="replace", closefd=False
            )
            for line in stream:
                yield line.rstrip("\r\n")
        else:
            yield word


# info


def _configure_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run_info)


def _run_info(options: argparse.Namespace) -> int:
    facts = _facts()
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    for name, value in facts.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, entry in value.items():
                print(f"  {key:<18} {entry}")
        else:
            print(f"{name:<20} {', '.join(value) if isinstance(value, list) else value}")
    return 0


def _facts() -> dict[str, Any]:
    """What one would want to know in a bug report."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from fastroute import _native
    from fastroute.artifacts import load_artifact
    from fastroute.routers.matrix_factorization import DEFAULT_FOLDER

    dependencies = {}
    for package in ("numpy", "faiss-cpu", "onnxruntime", "tokenizers", "safetensors", "httpx2"):
        try:
            dependencies[package] = version(package)
        except PackageNotFoundError:
            dependencies[package] = "not installed"
    artifact = load_artifact(DEFAULT_FOLDER)
    size = sum(f.stat().st_size for f in DEFAULT_FOLDER.parent.rglob("*") if f.is_file())
    return {
        "version": _native.version,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "compiler": _native.compiler(),
        "simd_level": _native.simd_level(),
        "simd_levels": _native.simd_levels(),
        "dependencies": dependencies,
        "default_artifact": {
            "router": artifact.kind,
            "embedder": artifact.config["embedder"],
            "dimensions": artifact.config["dimensions"],
            "checksum": artifact.checksum,
            "bytes": size,
        },
    }
