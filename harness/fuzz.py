"""Fuzzes the sidecar's decoder for a limited time with mutated frames, guided by code coverage.

bin/chaos fuzz --seconds 60
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.fuzz_rules import LINE
from harness.tools import ROOT

MAX_BYTES = 4096
ODD_VALUES = [
    "null",
    "true",
    "[]",
    "{}",
    '""',
    r'"\ud800"',
    r'"a\u0000"',
    "-1",
    "0.5",
    "1e999",
    "NaN",
    "1" * 400,
    "[" * 400,
]


def seeds() -> list[bytes]:
    """The contract's examples: messages, runs of messages, and frames; and a trade with odd values in each field."""
    examples: dict[str, list[dict[str, Any]]] = json.loads((ROOT / "contract/examples.json").read_text())
    messages = [json.dumps(example["message"]).encode() for kind in ("valid", "invalid") for example in examples[kind]]
    runs = [b"\n".join(messages[first : first + 3]) for first in range(0, len(messages), 3)]
    frames = [bytes.fromhex(frame["hex"]) if "hex" in frame else frame["text"].encode() for frame in examples["frames"]]
    trade = json.loads(LINE)
    odd = [
        LINE.replace(json.dumps({field: trade[field]})[1:-1].encode(), f'"{field}": {value}'.encode())
        for field in trade
        for value in ODD_VALUES
    ]
    return messages + runs + odd + [frame[:MAX_BYTES] for frame in frames]


def words() -> set[str]:
    """Names and punctuation that mutations rarely produce by chance."""
    found = re.findall(rb'"\w+"(?:: )?|[\d.]{4,}', b"\n".join(seeds()))
    # libFuzzer allows up to 64 bytes a word.
    return {word for word in (*(word.decode() for word in found), "}\n{", *ODD_VALUES) if len(word) <= 64}


def fuzz(folder: Path, duration: int) -> subprocess.CompletedProcess[str]:
    """Run the fuzzer in another process, because it never returns."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds()):
        (corpus / f"{number:03}").write_bytes(seed)
    dictionary = folder / "words"
    escapes = {"\\": r"\\", '"': r"\"", "\n": r"\x0a"}
    lines = ("".join(escapes.get(character, character) for character in word) for word in sorted(words()))
    dictionary.write_text("".join(f'"{line}"\n' for line in lines))
    options = {
        "artifact_prefix": f"{folder}/",
        "dict": dictionary,
        "max_len": MAX_BYTES,
        "max_total_time": duration,
        "print_final_stats": 1,
        "timeout": 60,
    }
    target = [sys.executable, "-m", "harness.fuzz_target"]
    flags = [f"-{name}={value}" for name, value in options.items()]
    return subprocess.run(
        [*target, *flags, str(corpus)], check=False, capture_output=True, text=True, errors="replace", cwd=ROOT
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/chaos fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="duration (60)")
    duration: int = parser.parse_args().seconds
    if duration < 1:
        parser.error("--seconds: at least 1")
    print(f"fuzz: fuzzing the decoder for {duration} s")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        run = fuzz(Path(folder), duration)
    if run.returncode:
        # The last error has the frame. Without one, libFuzzer stopped the decoder for its time or memory.
        defect = re.search(r"DefectError: (.+)", run.stdout + run.stderr)
        print(f"  WRONG: {defect[1]}" if defect else run.stdout + run.stderr)
        return 1
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", run.stderr))
    print(f"  {int(stats['number_of_executed_units']):,} frames, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
