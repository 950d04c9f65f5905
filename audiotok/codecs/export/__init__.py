"""Export of codecs as ONNX graphs, with a description that lets other programs run them."""
