"""The demo: an embedded broker, a shop's traffic and a live view around the real job.

Not here: the command (opportune.cli.demo).
"""
