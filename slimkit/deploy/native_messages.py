"""From a native library's wall of text to the one sentence that says what went wrong."""

from __future__ import annotations

import re
import signal
from typing import Optional

__all__ = ["HINTS", "ended_with", "essence", "hint_for"]

LONGEST = 320

# What a native message means and what to do about it. One row: a pattern and a sentence.
HINTS = [
    (
        r"bit_length == 8|quantization bits: \d+, only 8",
        "oneDNN executes 8-bit activations only; export with activation_bits 8, or run this model simulated (float)",
    ),
    (
        r"operator < conv2d_transpose > error",
        "oneDNN int8 cannot read an int8 conv2d_transpose weight; leave conv2d_transpose out of quantize_op_types",
    ),
    (
        r"does not match the type of data \(int8\)",
        "an int8 weight was left without its dequantize op; old-format models must store integers as float32, "
        "or export in the onnx format",
    ),
    (
        r"could not construct a memory descriptor using strides",
        "oneDNN cannot quantize a conv2d_transpose's output directly; export with runtime='onednn', which parts them",
    ),
    (
        r"Could not find threshold information",
        "a weight holds integers but has no dequantize scale; export the model again",
    ),
    (
        r"json(\.exception)?.*parse|parse_error",
        "the file is a Paddle 3 program in a .pdmodel's place; convert it with `slimkit convert`",
    ),
    (r"XShape|flatten_contiguous_range", "save the model again with slimkit, which restores what Paddle-Lite needs"),
    (r"No space left on device", "free disk space and run again"),
]

_SUMMARY = re.compile(r"Error Message Summary:\s*-*\s*(.*)", re.S)
_TELLING = re.compile(r"error|check failed|fatal|abort|terminate|exception|invalid|not supported|unsupported", re.I)


def essence(text: str) -> str:
    """Returns the telling part of a native error message, on one line.

    Args:
        text: an exception's text or a log; may hold a C++ traceback and an "Error Message Summary".

    Returns:
        At most about 300 characters, without source locations and log prefixes.
    """
    found = _SUMMARY.search(text)
    body = found.group(1) if found else text
    body = re.sub(r"\(at /[^)]*\)", "", body)
    body = re.sub(r"\[Hint: Expected.*?\]", "", body, flags=re.S)
    body = re.sub(r"^\s*\(\w+\) ", "", body)
    lines = [_clean(line) for line in body.splitlines()]
    lines = [line for line in lines if line and not re.fullmatch(r"[-=* ]+", line)]
    if not found and len(lines) > 4:
        telling = [line for line in lines if _TELLING.search(line)]
        lines = (telling or lines)[-3:]
    line = re.sub(r"\s*\.(?=\s*$)|\.(?= \[operator)", "", " ".join(dict.fromkeys(lines))).strip()
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _clean(line: str) -> str:
    line = re.sub(r"\x1b?\[[0-9;]*m", "", line).strip()
    return re.sub(r"^\[?\s*[IWEF]\w*\s*[\d/ :.]+\s*\d*\s+\S+:\d+\]\s*", "", line)


def ended_with(returncode: Optional[int]) -> str:
    """Names how a process ended: "was killed by SIGSEGV (signal 11)" or "ended with code 3"."""
    if returncode is not None and returncode < 0:
        try:
            return f"was killed by {signal.Signals(-returncode).name} (signal {-returncode})"
        except ValueError:
            return f"was killed by signal {-returncode}"
    return f"ended with code {returncode}"


def hint_for(text: str) -> Optional[str]:
    """Returns the remedy for a native message, or None when it is not a known one."""
    for pattern, sentence in HINTS:
        if re.search(pattern, text):
            return sentence
    return None
