"""Off-policy evaluation: what a policy that did not run would have given, from a log with
propensities."""
