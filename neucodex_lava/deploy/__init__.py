"""The cloud tail within other people's serving systems."""
