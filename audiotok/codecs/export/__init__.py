"""A codec as files that other programs run: graphs in ONNX, and what tells a reader all of them."""
