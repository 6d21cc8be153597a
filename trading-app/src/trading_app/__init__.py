"""Trades, made by people, programs and simulations, emitted over ZeroMQ."""
