"""The reference family: query-based detectors of one image-like frame, with mask heads."""
