"""What profiles keep of events beyond counts: one file a kind of feature, each with its state, its value and its merge."""
