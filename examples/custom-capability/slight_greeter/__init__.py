"""What the package adds to slight-py. Its entry points name these; nothing more is imported until a guest is served."""

from capabilities.registry import Family, ResourceType

GREETER = Family("greeter", {"greeter": "slight_greeter.greeter"}, embedded="greeter.polite")

POLITE = ResourceType("greeter.polite", "greeter", optional=("GREETING",), load="slight_greeter.polite:PoliteGreeter")
