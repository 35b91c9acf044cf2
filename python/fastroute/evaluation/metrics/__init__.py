"""Figures of a router on graded prompts: the curve, APGR, CPT, calibration, latency."""
