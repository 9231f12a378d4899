"""From any recording of traffic to a sequence store, without torch."""
