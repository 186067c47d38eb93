"""`hil-lab bench`: kernels counted statically, networks against other runtimes, and build times."""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from hil_lab.bench.networks import chosen
from hil_lab.console import Reporter, RichReporter, Silent, print_json, print_table, print_text


def run(arguments: argparse.Namespace) -> int:
    """Run one of the benchmarks."""
    actions = {"kernels": _kernels, "models": _models, "compile": _compile}
    return actions[arguments.what](arguments)


def _reporter(arguments: argparse.Namespace) -> Reporter:
    return Silent() if arguments.json else RichReporter()


def _compile(arguments: argparse.Namespace) -> int:
    from hil_lab.bench.builds import time_builds

    results = [
        time_builds(n, arguments.target, arguments.rounds or 10, 1, _reporter(arguments)).to_dict()
        for n in chosen(arguments.network or ["resnet18-cifar"])
    ]
    if arguments.json:
        print_json({"builds": results})
        return 0
    rows = [
        [
            r["network"],
            f"{r['cold_s']:.2f} s",
            f"{r['known_median_s']:.3f} s",
            f"{r['changed_median_s']:.2f} s",
            f"{r['compiled_median']:g}",
            f"{r['upload_bytes'] / 1000:.0f} kB",
        ]
        for r in results
    ]
    columns = ("network", "cold", "known structure", "2 layers changed", "kernels", "upload")
    print_table(columns, rows)
    return 0


def _models(arguments: argparse.Namespace) -> int:
    from hil_lab.bench.models import time_models

    results = [
        time_models(n, arguments.threads, arguments.rounds or 30, _reporter(arguments)).to_dict()
        for n in chosen(arguments.network)
    ]
    means = {
        key: statistics.geometric_mean([r[key] for r in results])
        for key in ("fp32_ratio", "int8_ratio", "int8_over_fp32")
        if all(r[key] is not None for r in results)
    }
    if arguments.json:
        print_json({"models": results, "geometric_mean": means})
        return 0
    names = list(dict.fromkeys(name for r in results for name in r["median_ms"]))
    rows = [
        [
            r["network"],
            *(f"{r['median_ms'][n]:.2f}" if n in r["median_ms"] else "-" for n in names),
            _ratio(r["fp32_ratio"]),
            _ratio(r["int8_ratio"]),
        ]
        for r in results
    ]
    print_table(("ms", *names, "fp32 / best", "int8 / best"), rows)
    said = "   ".join(f"{key} {value:.2f}" for key, value in means.items())
    print_text(f"\ngeometric means   {said}")
    for reason in dict.fromkeys(w for r in results for w in r["unavailable"].values()):
        print_text(f"missing   {reason}")
    return 0


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _kernels(arguments: argparse.Namespace) -> int:
    from hil_lab.bench.kernels import FORMATS, kernel_figures

    figures: list[dict[str, Any]] = [
        {"network": n.name, **f.to_dict()}
        for n in chosen(arguments.network)
        for form in FORMATS
        for f in kernel_figures(n, form, _reporter(arguments))
    ]
    fallbacks = [f for f in figures if f["fallback"]]
    if arguments.json:
        print_json({"kernels": figures, "fallbacks": len(fallbacks)})
    else:
        rows = [
            [
                f["network"],
                f["format"],
                f["kind"],
                f"{f['calls']}",
                f"{f['macs'] / 1e6:.2f}",
                "-" if f["macs_per_cycle"] is None else f"{f['macs_per_cycle']:.2f}",
                f"{f['spills']}",
                "FALLBACK" if f["fallback"] else "",
                ", ".join(f["layers"][:2]) + (" ..." if len(f["layers"]) > 2 else ""),
            ]
            for f in figures
        ]
        columns = (
            "network", "format", "kernel", "calls", "MMAC", "MAC/cycle", "spills", "", "layers",
        )  # fmt: skip
        print_table(columns, rows)
        print_text(f"\n{len(figures)} kernels, {len(fallbacks)} left to the compiler")
    return 1 if fallbacks else 0
