"""The conclusion of a benchmark in one sentence: whether the best router beats the baselines."""

from __future__ import annotations

from fastroute.evaluation.results import BenchmarkResult, Report, RouterResult
from fastroute.evaluation.thresholds.measured import MeasuredThreshold, goal_of


def best_row(result: BenchmarkResult) -> RouterResult:
    """The router with the greatest APGR; the length baseline where there is no other."""
    # Rows are routers by falling APGR, then length, random and the oracle.
    return next(row for row in result.rows if row.name not in ("random", "oracle"))


def goal_point(row: RouterResult) -> MeasuredThreshold | None:
    """The cheapest threshold of a router that reaches the goal of the report."""
    return next((point for point in row.thresholds if point.reaches_goal), None)


def conclusion(report: Report, result: BenchmarkResult) -> str:
    """The conclusion of a benchmark, one sentence that ends with a full stop.

    A router beats a baseline, or loses to it, where APGR differs by a paired p-value below
    1 - confidence; without resamples by APGR alone.
    """
    best = best_row(result)
    routers = sum(row.kind == "router" for row in result.rows)
    name = f"{best.name}, the best of {routers} routers," if routers > 1 else best.name
    verdict = _verdict(report, result, best)
    return f"{name} {verdict}{_needs(report, result, best)}."


def _verdict(report: Report, result: BenchmarkResult, best: RouterResult) -> str:
    """The comparison with the baselines: "beats random routing, but loses to ..."."""
    rivals = {"random routing": (result.row("random"), best.p_random)}
    if best.kind == "router":
        rivals["the length of the prompt"] = (_length(result), best.p_length)
    said: dict[str, list[str]] = {"beats": [], "is no better than": [], "loses to": []}
    for name, (rival, p_value) in rivals.items():
        if p_value is not None and p_value >= 1.0 - report.confidence:
            verb = "is no better than"
        else:
            difference = best.apgr.value - rival.apgr.value
            verb = (
                "beats" if difference > 0 else "loses to" if difference < 0 else "is no better than"
            )
        said[verb].append(name)
    parts = [f"{verb} {' and '.join(names)}" for verb, names in said.items() if names]
    return ", but ".join(parts) if said["beats"] else " and ".join(parts)


def _needs(report: Report, result: BenchmarkResult, best: RouterResult) -> str:
    """The cost of the goal with the router and the baselines; empty without thresholds."""
    own, goal = goal_point(best), goal_of(result.benchmark)
    if own is None:
        return ""
    rivals = [f"random routing {_amount(report, result, goal.pgr, None)}"]
    length = goal_point(_length(result))
    if best.kind == "router" and length is not None:
        rivals.append(f"length {_amount(report, result, length.share, length.cost)}")
    needs = _amount(report, result, own.share, own.cost)
    what = "" if report.axis == "cost" else " strong calls"
    return f": for {goal.text} it needs {needs}{what}, {' and '.join(rivals)}"


def _amount(report: Report, result: BenchmarkResult, share: float, cost: float | None) -> str:
    """A share of strong calls, or dollars per 1,000 prompts; those of a share on the line of random
    routing where ``cost`` is None."""
    b = result.benchmark
    if report.axis != "cost" or b.cost_weak is None or b.cost_strong is None:
        return f"{share:.0%}"
    weak, strong = float(b.cost_weak.mean()), float(b.cost_strong.mean())
    dollars = weak + share * (strong - weak) if cost is None else cost
    return f"{1000.0 * dollars:.4g} dollars per 1,000 prompts"


def _length(result: BenchmarkResult) -> RouterResult:
    return result.rows[-3]
