"""The administrator's command ``hwmgr``: its commands, and what they print."""
