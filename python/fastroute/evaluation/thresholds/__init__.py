"""Operating points: thresholds for a share or a quality, and the bands of cascades."""
