"""The program that the fuzzer runs, with libFuzzer's flags. `fuzz.py` starts it."""

import sys

import atheris

with atheris.instrument_imports(include=["metrics_sidecar.messages"]):
    from harness import fuzz_rules

atheris.Setup(sys.argv, fuzz_rules.check)
atheris.Fuzz()
