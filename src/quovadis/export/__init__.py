"""Export networks to ONNX, torch.export and TorchScript."""
