"""What makes training quick and safe, in plain values: optimisers, hardware, resuming, time."""
