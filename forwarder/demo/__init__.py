"""A whole small mail world on loopback, made only by the verbs a person types (docs/decisions/0002-demo-room.md)."""
