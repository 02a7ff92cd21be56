"""The administrator's command ``multusctl``."""
