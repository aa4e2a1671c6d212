"""What the machine is and how it computes: its processor, settings of torch, the cache folder, OpenVINO."""
