"""Tests of fastroute.labelling."""
