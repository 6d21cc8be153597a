"""A trading page, an HTTP API and an order flow that emit trades over ZeroMQ."""

from trading_app.publisher import TradePublisher

__all__ = ["TradePublisher"]
