"""The honest comparison: what sharing weights costs, against networks trained alone."""
