"""Networks: plain ``torch.nn``, no data handling, no devices."""
