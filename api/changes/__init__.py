"""The live stream of membership changes."""
