"""Training of face detectors: data, network, losses and the loop."""
