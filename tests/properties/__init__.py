"""The ten properties of `scripts/proof properties`, and what peers do in their place."""
