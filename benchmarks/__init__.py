"""This project beside what people would use instead, measured in one run: bin/bench."""
