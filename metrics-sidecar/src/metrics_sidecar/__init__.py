"""Trade events in over ZeroMQ, Prometheus metrics out over HTTP."""
