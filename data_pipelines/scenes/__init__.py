"""Scenes of a few things, true sentences about them, and their pictures."""
