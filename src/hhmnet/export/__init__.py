"""Trained models as ONNX files: graph.py makes one, parity.py compares its answers with PyTorch's."""
