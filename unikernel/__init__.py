"""An application as the only process of a virtual machine."""
