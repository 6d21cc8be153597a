"""What starts real parts: processes, ports, a Prometheus, and what kills them."""
