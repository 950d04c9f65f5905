"""A codec over WebSocket, for many at once; `protocol` says how, `page/` is what a browser sees."""
