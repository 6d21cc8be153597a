"""The program that the fuzzer runs, with libFuzzer's flags. `fuzz.py` starts it."""

import sys
from functools import partial

import atheris

with atheris.instrument_imports(include=["metrics_sidecar.messages"]):
    from harness import fuzz_rules

atheris.Setup(sys.argv, partial(fuzz_rules.check, stretching=fuzz_rules.Clock(fuzz_rules.STRETCHED_SHARE)))
atheris.Fuzz()
