"""Emits trades over ZeroMQ without waiting: a library, a page, an HTTP API and an order feed."""

from trading_app.publisher import TradePublisher

__all__ = ["TradePublisher"]
