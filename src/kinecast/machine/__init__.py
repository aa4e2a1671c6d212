"""The machine: its processor, torch's process-wide settings, the cache folder, OpenVINO."""
