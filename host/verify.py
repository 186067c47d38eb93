"""What a verification must show before a number is reported; pure judgement of a report."""

from __future__ import annotations

from protos.values import LayerCheck, VerifyReport

# Whole-model outputs may differ by this share of their range; more must come from rounding ties.
OUTPUT_SHARE = 1e-3


def exact(check: LayerCheck) -> bool:
    """Whether a layer is integer-exact, rounding ties of its input aside."""
    return check.accumulate_mismatches == 0 and check.quantize_mismatches == check.quantize_ties


def complaints(report: VerifyReport) -> list[str]:
    """Return one sentence per failure; none means that the program is the evaluated network."""
    found = []
    for check in report.layers:
        if check.accumulate_mismatches:
            found.append(
                f"{check.layer} differs from the reference in {check.accumulate_mismatches} of "
                f"{check.accumulate_elements} integers (largest {check.accumulate_largest})"
            )
        if untied := check.quantize_mismatches - check.quantize_ties:
            found.append(f"{check.layer}: {untied} input codes differ and are no rounding ties")
    share = report.forced_output_largest / max(report.output_range, 1e-12)
    if share > OUTPUT_SHARE:
        found.append(f"outputs differ by {share:.2%} of their range on equal integers")
    return found


def summary(report: VerifyReport) -> str:
    """Return the verification in a few words."""
    good = sum(exact(check) for check in report.layers)
    share = report.output_largest / max(report.output_range, 1e-12)
    ties = sum(check.quantize_ties for check in report.layers)
    text = f"{good} of {len(report.layers)} quantized layers integer-exact, "
    text += f"outputs within {share:.1e} of their range"
    return text + (f", {ties} rounding ties" if ties else "")
