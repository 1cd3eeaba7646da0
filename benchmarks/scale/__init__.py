"""Installations of several sizes, on several databases, side by side.

Each is one throw-away installation: a station, which fills its database and asks its pages (`station.py`), the device
listener, and the two bare views beside it. The benchmark's own process is the devices.
"""
