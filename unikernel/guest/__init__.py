"""What runs in a machine with Linux: process 1, and the application or the function service in it."""
