"""Counts trades from ZeroMQ and serves the totals as Prometheus metrics."""
