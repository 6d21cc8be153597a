"""Test harness: starts, drives and kills the real programs."""
