"""Exit policies of bundles, calibrated on samples that no evaluation of them sees again."""
