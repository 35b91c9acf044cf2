"""Thresholds for a share or a quality, what they do, and the bands of cascades."""
