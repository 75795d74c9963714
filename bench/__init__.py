"""Measurements of the whole job over a real Kafka; ``python -m bench --help`` lists them."""
