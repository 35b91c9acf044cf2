"""``fastroute route``: prompts in, decisions out; nothing is sent to a model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastroute.cli.options import ROUTER_HELP, number, parse_router, text
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.routers.base import Router


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "prompts",
        nargs="+",
        metavar="PROMPT",
        help="a prompt to route; - reads prompts from standard input, a line each",
    )
    parser.add_argument(
        "--router", type=text, default="mf", metavar="R", help=f"{ROUTER_HELP} (default: mf)"
    )
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
    parser.add_argument(
        "--strong-model", type=text, default="strong", metavar="NAME", help="its name"
    )
    parser.add_argument("--weak-model", type=text, default="weak", metavar="NAME", help="its name")
    parser.add_argument(
        "--checkpoint",
        type=text,
        metavar="FOLDER",
        help="mf: a fastroute artifact or RouteLLM checkpoint; bert: a folder with an ONNX "
        "classifier, or a hub id; causal_llm: its ONNX folder",
    )
    parser.add_argument(
        "--battles",
        type=text,
        metavar="FILE",
        help="sw_ranking: JSONL, CSV or Parquet of prompt, model_a, model_b, winner",
    )
    parser.add_argument("--num-tiers", type=int, metavar="N", help="sw_ranking: rating tiers")
    parser.add_argument("--seed", type=int, metavar="N", help="random: seed")
    parser.add_argument("--json", action="store_true", help="print one JSON object a prompt")


def run(options: argparse.Namespace) -> int:
    """Print a decision a prompt, each as soon as it is made."""
    from fastroute.controller import Controller
    from fastroute.routers import create_router

    name, _, config = parse_router(options.router)
    router = create_router(name, **_router_config(options, name, config))
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


def _router_config(
    options: argparse.Namespace, name: str, config: dict[str, Any]
) -> dict[str, Any]:
    """``config`` with the chosen router's options; one of another router is an error."""
    belongs = {
        "checkpoint": (("mf", "bert", "causal_llm"), "checkpoint_path"),
        "battles": (("sw_ranking",), "battles"),
        "num_tiers": (("sw_ranking",), "num_tiers"),
        "seed": (("random",), "seed"),
    }
    for option, (routers, key) in belongs.items():
        value = getattr(options, option)
        if value is None:
            continue
        flag = f"--{option.replace('_', '-')}"
        if name not in routers:
            raise InvalidInputError(
                f"{flag} belongs to --router {' or '.join(routers)}, not {name}"
            )
        if key in config:
            raise InvalidInputError(f"{flag} and {key} in --router are the same; give one of them")
        config[key] = value
    # The pair is the checkpoint's or the battles' where the router knows models by name.
    if name == "sw_ranking" or (name == "mf" and "checkpoint_path" in config):
        pair = (options.strong_model, options.weak_model)
        for key, value, default in zip(
            ("strong_model", "weak_model"), pair, ("strong", "weak"), strict=True
        ):
            if value != default and key not in config:
                config[key] = value
    return config


def _threshold(options: argparse.Namespace, router: Router) -> float:
    from fastroute.policy import check_threshold, threshold_for_strong_share

    if options.strong_share is None:
        given = "0.5" if options.threshold is None else options.threshold
        return check_threshold(number("--threshold", given))
    share = number("--strong-share", options.strong_share)
    if router.provenance.calibration is None:
        raise InvalidInputError(
            f"--strong-share: router {router.name!r} was never calibrated for its pair of "
            "models; give --threshold, or find one with fastroute calibrate --prompts FILE"
        )
    return threshold_for_strong_share(router.provenance.calibration, share)


def _prompts(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word == "-":
            # A byte that is no UTF-8 must not lose the line that it is in.
            stream = open(  # noqa: SIM115 - closefd=False: standard input is not ours to close
                sys.stdin.fileno(), encoding="utf-8", errors="replace", closefd=False
            )
            lines = iter(stream)
            while True:
                try:
                    line = next(lines, None)
                except OSError as error:  # a folder, or a stream that is open for writing only
                    reason = error.strerror or error
                    raise InvalidInputError(f"standard input can't be read: {reason}") from error
                if line is None:
                    break
                yield line.rstrip("\r\n")
        else:
            yield word
